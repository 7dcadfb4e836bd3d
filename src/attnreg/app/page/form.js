// The form: what there is to choose from, the words of the prompt as chips, errors beside their fields.

import { $, ask, calmly, make, Refused } from "./page.js";

const TEXTS = ["prompt", "seeds", "steps", "guidance_scale", "negative_prompt", "height", "width"];
const CHOICES = ["method", "model", "scheduler"];

let options;
let found = []; // words that the app finds in the prompt
let typed = []; // words that the user added
const off = new Set(); // words that are switched off
let given = {}; // settings of methods by name, also of those that are not chosen
let asked = 0; // number of the latest question about words
let changed = () => {};

export function build(told, whenChanged) {
  options = told;
  changed = whenChanged;
  $("method").append(...options.methods.map((one) => make("option", { value: one.name }, one.name)));
  $("model").append(...options.models.map((one) => make("option", { value: one.name }, one.name)));
  $("scheduler").append(make("option", { value: "" }, "the model's own"));
  $("scheduler").append(...options.schedulers.map((one) => make("option", { value: one }, one)));
  $("method").value = options.method;
  $("prompt").value = options.example.prompt;
  $("seeds").value = options.example.seeds;
  showMethod();
  showModel();
  $("prompt").addEventListener("input", lookSoon);
  $("adjectives").addEventListener("change", look);
  $("model").addEventListener("change", () => (showModel(), look()));
  $("method").addEventListener("change", showMethod);
  $("add").addEventListener("click", addWord);
  $("word").addEventListener("keydown", (event) => {
    if (event.key === "Enter") {
      event.preventDefault();
      addWord();
    }
  });
  $("form").addEventListener("input", changed);
  $("form").addEventListener("change", changed);
}

/** What the form asks for, as the app takes it. */
export function read() {
  const form = { adjectives: $("adjectives").checked, targets: targets(), settings: settings() };
  for (const name of [...TEXTS, ...CHOICES]) form[name] = $(name).value;
  return form;
}

/** Put settings into the form: those of a picture, or those that the page had before it was loaded anew. */
export async function fill(form) {
  for (const name of TEXTS) $(name).value = form[name] ?? "";
  if (form.model) $("model").value = form.model;
  if (![...$("method").options].some((one) => one.value === form.method))
    $("method").append(make("option", { value: form.method }, form.method)); // several methods at once
  $("method").value = form.method;
  $("scheduler").value = form.scheduler ?? "";
  $("adjectives").checked = form.adjectives;
  given = { ...form.settings };
  off.clear();
  typed = [];
  showMethod();
  showModel();
  await look();
  if (form.targets) {
    for (const word of found) if (!form.targets.includes(word)) off.add(word);
    typed = form.targets.filter((word) => !found.includes(word));
    showChips();
  }
}

function targets() {
  const on = [...found, ...typed].filter((word) => !off.has(word));
  const automatic = !typed.length && on.length === found.length;
  return automatic ? null : on;
}

function settings() {
  keepSettings();
  const known = new Set(methodSettings().map((one) => one.name));
  return Object.fromEntries(Object.entries(given).filter(([name, text]) => known.has(name) && text.trim()));
}

function methodSettings() {
  const names = $("method").value.split("+");
  const all = names.flatMap((name) => options.methods.find((one) => one.name === name)?.settings ?? []);
  return all.filter((one, at) => all.findIndex((other) => other.name === one.name) === at);
}

function keepSettings() {
  for (const field of document.querySelectorAll("[data-setting]")) given[field.dataset.setting] = field.value;
}

function showMethod() {
  keepSettings();
  const summary = options.methods.find((one) => one.name === $("method").value)?.summary ?? "several methods at once";
  $("method-note").textContent = `${summary[0].toUpperCase()}${summary.slice(1)}.`;
  const strength = methodSettings().find((one) => one.name === "strength");
  $("strength-field").hidden = !strength;
  delete $("strength").dataset.setting;
  if (strength) {
    $("strength").dataset.setting = "strength";
    $("strength").placeholder = strength.default;
    $("strength").title = strength.help;
    $("strength").value = given.strength ?? "";
  }
  const others = methodSettings().filter((one) => one.name !== "strength");
  $("settings").replaceChildren(...others.map(settingField));
}

function settingField(one) {
  const id = `set-${one.name}`;
  const field = make("input", {
    id, type: "text", placeholder: one.default, "data-setting": one.name, "aria-describedby": `${id}-note`,
  });
  field.value = given[one.name] ?? "";
  const label = make("label", { for: id }, one.name.replaceAll("_", " "));
  return make("div", { class: "field" }, label, field, make("p", { class: "note", id: `${id}-note` }, one.help));
}

function showModel() {
  const model = options.models.find((one) => one.name === $("model").value);
  for (const name of ["steps", "guidance_scale", "height", "width"]) $(name).placeholder = model?.[name] ?? "";
  $("words").hidden = !model?.words;
  if (model?.words) {
    const { things, colours, others } = model.words;
    $("words").querySelector("p").textContent =
      `Things: ${things.join(", ")}. Colours: ${colours.join(", ")}. Others: ${others.join(" ")}`;
  }
}

/** Ask which words of the prompt would be heeded. */
export async function look() {
  const mine = ++asked;
  const { prompt, model, adjectives } = read();
  try {
    const told = await ask("/api/targets", { prompt, model, adjectives });
    if (mine !== asked) return;
    found = told.targets;
    $("targets-note").textContent = told.notes.map((note) => `${note[0].toUpperCase()}${note.slice(1)}.`).join(" ");
    showError("prompt", "");
    showError("targets", "");
  } catch (error) {
    if (!(error instanceof Refused) || mine !== asked) return;
    found = [];
    $("targets-note").textContent = "";
    if (error.errors.prompt) showError("prompt", error.errors.prompt);
  }
  typed = typed.filter((word) => !found.includes(word));
  showChips();
}

const lookSoon = calmly(look, 350);

function showChips() {
  const chip = (word) => {
    const box = make("input", { type: "checkbox", value: word, checked: !off.has(word) });
    box.addEventListener("change", () => (box.checked ? off.delete(word) : off.add(word)));
    return make("label", { class: "chip" }, box, make("span", {}, word));
  };
  $("chips").replaceChildren(...[...found, ...typed].map(chip));
}

async function addWord() {
  const word = $("word").value.trim();
  if (!word) return showError("targets", "Write a word of the prompt, then add it.");
  if ([...found, ...typed].includes(word)) {
    off.delete(word);
  } else {
    const { prompt, model, adjectives } = read();
    const on = [...found, ...typed].filter((one) => !off.has(one));
    try {
      await ask("/api/targets", { prompt, model, adjectives, targets: [...on, word] });
    } catch (error) {
      return showErrors(error.errors);
    }
    typed.push(word);
  }
  $("word").value = "";
  showError("targets", "");
  showChips();
  changed();
}

function showError(name, text) {
  const place = $(`${name}-error`);
  if (!place) return false;
  place.textContent = text;
  const control = place.closest("[data-field]").querySelector("textarea, input[type=text], select, input[type=file]");
  if (control) control.setAttribute("aria-invalid", text ? "true" : "false");
  return true;
}

/** Say what is wrong beside each field, and go to the first; without errors, take all of them away. */
export function showErrors(errors = {}) {
  const left = { ...errors };
  delete left.silent;
  let first = null;
  for (const place of document.querySelectorAll("[data-field] > .error")) {
    const name = place.closest("[data-field]").dataset.field;
    if (name !== "form") showError(name, left[name] ?? "");
    if (left[name] && !first && name !== "form") first = place.closest("[data-field]");
    if (name !== "form") delete left[name];
  }
  showError("form", Object.values(left).join(" "));
  if (!first) return;
  const hiding = first.closest("details");
  if (hiding) hiding.open = true;
  first.querySelector("textarea, input, select")?.focus();
}
