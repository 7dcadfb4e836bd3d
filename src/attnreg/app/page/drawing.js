// A drawing: both pictures under a slider, a row of seeds, and what happened.

import { $, make } from "./page.js";

let drawing = null;
let seed = null;

$("slider").addEventListener("input", moved);

function moved() {
  $("stage").style.setProperty("--at", `${$("slider").value}%`);
  $("slider").setAttribute("aria-valuetext", `${$("slider").value} % unmodified`);
}

/** Show a drawing, or more of the one that is shown; the seed that was chosen stays. */
export function show(told) {
  const other = drawing?.name !== told.name;
  drawing = told;
  if (other) seed = null;
  if (!told.seeds.length) return;
  $("empty").hidden = true;
  $("shown").hidden = false;
  const wanted = told.seeds.find((one) => one.seed === seed);
  seed = (wanted ?? told.seeds[0]).seed;
  $("shown-title").textContent = `“${told.prompt}”`;
  showSeeds();
  showOne();
}

/** Show nothing, for a drawing that has no picture yet. */
export function clear(name) {
  drawing = { name, seeds: [] };
  seed = null;
  $("shown").hidden = true;
  $("empty").hidden = true;
}

/** Go to the seed where most happened, if the user has chosen none. */
export function showMended() {
  const mended = drawing?.seeds.find((one) => one.happened?.chosen > 0);
  if (mended && drawing.seeds[0].seed === seed) choose(mended.seed);
}

function choose(one) {
  seed = one;
  for (const button of $("seeds-row").querySelectorAll("button"))
    button.setAttribute("aria-pressed", button.dataset.seed === seed);
  showOne();
}

function showSeeds() {
  const held = document.activeElement?.dataset?.seed;
  const entry = (one) => {
    const mark = one.happened?.after ?? "";
    const mended = one.happened?.chosen > 0;
    return make("li", {},
      make("button", {
        type: "button", "data-seed": one.seed, "aria-pressed": String(one.seed === seed), onclick: () => choose(one.seed),
      },
      make("img", { src: one.regulated ?? one.unmodified, alt: "" }), `seed ${one.seed}`,
      mark ? make("span", { class: mended ? "mended" : "heard" }, mended ? "new noise" : `, ${mark}`) : null));
  };
  $("seeds-row").replaceChildren(...drawing.seeds.map(entry));
  if (held) $("seeds-row").querySelector(`[data-seed="${held}"]`)?.focus();
}

function showOne() {
  const one = drawing.seeds.find((other) => other.seed === seed);
  const both = one.unmodified && one.regulated;
  $("stage").classList.toggle("single", !both);
  picture("unmodified", both ? one.unmodified : "", `seed ${seed}, unmodified`);
  picture("regulated", one.regulated ?? one.unmodified, `seed ${seed}, ${one.regulated ? drawing.method : "unmodified"}`);
  $("right-tag").textContent = one.regulated ? drawing.method : "unmodified";
  $("mark-before").textContent = one.happened?.before ?? "";
  $("mark-after").textContent = one.happened?.after ?? "";
  moved();
  showHappened(one);
}

function picture(id, address, alt) {
  if (address) {
    if ($(id).getAttribute("src") !== address) $(id).src = address;
    $(id).alt = alt;
  } else {
    $(id).removeAttribute("src");
    $(id).alt = "";
  }
}

function showHappened(one) {
  const parts = [];
  const { happened } = one;
  if (happened) {
    parts.push(make("h3", {}, `What happened with seed ${one.seed}`));
    if (happened.why) parts.push(make("p", {}, `Method used: ${happened.why}.`));
    parts.push(make("p", {}, `${happened.account[0].toUpperCase()}${happened.account.slice(1)}.`));
    if (happened.noises.length) parts.push(tried(happened));
  } else if (one.regulated) {
    parts.push(make("p", { class: "note" }, "There is no record of how this picture was drawn."));
  }
  parts.push(maps(one));
  const links = [["unmodified", one.unmodified], [drawing.method, one.regulated]]
    .filter(([, address]) => address)
    .flatMap(([name, address], at) => [at ? ", " : "Download: ", make("a", { href: address, download: "" }, name)]);
  parts.push(make("p", { class: "note" }, ...links));
  $("happened").replaceChildren(...parts.filter(Boolean));
}

/** Where the model looked for each word over the steps, closed until someone wants it; whether it is open is kept. */
function maps(one) {
  const figures = [["unmodified", one.unmodified_maps], [drawing.method, one.regulated_maps]].filter(([, at]) => at);
  if (!figures.length) return null;
  const shown = figures.map(([name, address]) =>
    make("figure", {}, make("figcaption", {}, `Seed ${one.seed}, ${name}`),
      make("img", { src: address, loading: "lazy", alt: `Attention maps of ${drawing.targets.join(", ")} over the steps, ${name}` })));
  const open = Boolean($("maps")?.open);
  return make("details", { id: "maps", open }, make("summary", {}, "Attention maps: where the model attended to each word"),
    make("div", { class: "maps", tabindex: "0", role: "group", "aria-label": "Attention maps" }, ...shown));
}

/** The initial noises that were tried, with their scores. */
function tried({ noises, chosen }) {
  const row = (told, at) => {
    const what = at === 0 ? "the seed's own" : `number ${at + 1}`;
    return make("tr", { class: at === chosen ? "taken" : null },
      make("th", { scope: "row" }, what), make("td", {}, told), make("td", {}, at === chosen ? "used" : ""));
  };
  const heads = ["initial noise", "score", ""].map((text) => make(text ? "th" : "td", text ? { scope: "col" } : {}, text));
  return make("table", {},
    make("caption", {}, "The initial noises that were tried. The higher the score, the more clearly the model reads every word in the picture that the noise leads to."),
    make("thead", {}, make("tr", {}, ...heads)), make("tbody", {}, ...noises.map(row)));
}
