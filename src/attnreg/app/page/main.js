// The page: drawing, cancelling, restoring, copying; the parts are in the other files.

import { clear, show, showMended } from "./drawing.js";
import { build, fill, look, read, showErrors } from "./form.js";
import { begin, load } from "./history.js";
import { $, ask, Refused, say } from "./page.js";

const MOST_BYTES = 64 * 2 ** 20;
const CHOOSE = $("picture-note").textContent; // what the page says at first
let watching = true; // whether the drawing in progress is what is shown
const page = (sessionStorage.page ??= crypto.randomUUID?.() ?? String(Math.random()));

async function start() {
  let options;
  try {
    options = await ask("/api/options");
  } catch (error) {
    return showErrors(error.errors);
  }
  build(options, () => (sessionStorage.form = JSON.stringify(read())));
  $("empty").textContent =
    `Press Draw. “${options.example.prompt}” was chosen because it shows the effect: in seed 3, the bundled model loses the ` +
    "bird, and attnreg brings it back. The other three seeds need no change and stay as they are.";
  if (sessionStorage.form) await fill(JSON.parse(sessionStorage.form));
  else await look();
  await begin(reopen);
  if (sessionStorage.job) follow(sessionStorage.job);
  document.body.dataset.ready = "";
}

async function draw(event) {
  event.preventDefault();
  showErrors();
  $("draw").disabled = true;
  try {
    const told = await ask("/api/draw", { ...read(), page });
    sessionStorage.job = told.job;
    clear("");
    follow(told.job);
    $("stop").focus({ preventScroll: true });
    if ($("result").getBoundingClientRect().top > innerHeight / 2) $("result").scrollIntoView();
  } catch (error) {
    showErrors(error.errors);
    $("draw").disabled = false;
  }
}

/** Ask how a drawing is until it has ended. */
async function follow(token) {
  watching = true;
  $("draw").disabled = true;
  $("stop").disabled = false;
  $("progress").hidden = false;
  say("The drawing has begun.");
  let told;
  for (let silent = 0; ; ) {
    try {
      told = await ask(`/api/jobs/${token}`);
      silent = 0;
    } catch (error) {
      if (!("silent" in error.errors) || ++silent > 20) {
        ended();
        return showErrors(silent ? error.errors : { form: "The app was restarted. Finished pictures are in the history." });
      }
      $("doing").textContent = error.message;
    }
    if (told && !silent) {
      if (watching && told.drawing.seeds.length) show(told.drawing);
      if (!["waiting", "drawing"].includes(told.state)) break;
      showProgress(told);
    }
    await new Promise((go) => setTimeout(go, silent ? 2000 : 250));
  }
  ended();
  if (told.state === "failed") showErrors({ form: told.error });
  if (told.state === "done" && watching) showMended();
  const count = told.drawing.seeds.length;
  say({ done: `Done: ${count} seeds.`, stopped: "Cancelled.", failed: told.error }[told.state]);
  if (told.state === "stopped" && !count && watching) {
    $("empty").hidden = false;
    $("empty").textContent = "Cancelled before the first picture was finished.";
  }
  await load();
}

function ended() {
  delete sessionStorage.job;
  const held = document.activeElement === $("stop") || document.activeElement === document.body;
  $("draw").disabled = false;
  $("stop").disabled = true;
  $("progress").hidden = true;
  if (held) $("draw").focus({ preventScroll: true });
}

function showProgress(told) {
  const bar = $("progress").querySelector("progress");
  if (told.state === "waiting") {
    $("doing").textContent = `Waiting: ${told.ahead} ${told.ahead === 1 ? "drawing is" : "drawings are"} before this one.`;
    bar.removeAttribute("value");
    return;
  }
  const { step, steps, passes } = told.progress;
  const what = `Seed ${told.seed}, ${told.regulated ? `with ${told.drawing.method}` : "unmodified"}`;
  const ahead = !step && passes > 1;
  const how = ahead ? `preparing, pass ${passes} of the denoiser` : step ? `step ${step} of ${steps}` : "starting";
  $("doing").textContent = `${what}: ${how}`;
  const each = told.drawing.method === "none" ? 1 : 2;
  const done = told.drawing.seeds.reduce((sum, one) => sum + Boolean(one.unmodified) + Boolean(one.regulated), 0);
  bar.value = Math.min(1, (done + (steps ? step / steps : 0)) / (told.seeds.length * each));
}

async function stop() {
  $("stop").disabled = true;
  if (!sessionStorage.job) return;
  $("doing").textContent = "Cancelling …";
  await ask(`/api/jobs/${sessionStorage.job}/stop`, {}).catch(() => {});
}

async function restore(file) {
  if (!file) return;
  const said = (errors, note) => {
    showErrors(errors);
    $("picture-note").textContent = note;
  };
  if (file.size > MOST_BYTES) return said({ picture: "This file is larger than 64 MiB." }, CHOOSE);
  try {
    const told = await ask("/api/restore", file, "application/octet-stream");
    await fill(told.form);
    sessionStorage.form = JSON.stringify(read());
    said({}, told.notes.join(" ") || `The settings of ${file.name} are in the form.`);
    say($("picture-note").textContent);
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    said({ picture: error.errors.picture ?? error.message }, `The form is unchanged. ${CHOOSE}`);
  }
}

async function reopen(told) {
  watching = false;
  clear(told.name);
  show(told);
  showMended();
  showErrors();
  await fill(told.form);
  sessionStorage.form = JSON.stringify(read());
  $("picture-note").textContent = told.notes.join(" ") || CHOOSE;
  $("result").focus();
  $("result").scrollIntoView();
  say(`${told.prompt}: ${told.seeds.length} seeds.`);
}

async function copy(kind, name) {
  showErrors();
  let told;
  try {
    told = await ask("/api/copy", read());
  } catch (error) {
    return showErrors(error.errors);
  }
  const done = await navigator.clipboard?.writeText(told[kind]).then(() => true, () => false);
  $("copied").hidden = false;
  $("copied").open = true;
  $("copied").querySelector("summary").textContent = done ? `Copied as ${name}` : `As ${name}, to be copied by hand`;
  $("copied").querySelector("pre").textContent = told[kind];
  say(done ? `Copied as ${name}.` : `Shown as ${name}.`);
}

$("form").addEventListener("submit", draw);
$("stop").addEventListener("click", stop);
$("picture").addEventListener("change", () => restore($("picture").files[0]));
$("copy-python").addEventListener("click", () => copy("python", "Python"));
$("copy-command").addEventListener("click", () => copy("command", "a command"));
for (const [kind, over] of [["dragover", true], ["dragleave", false], ["drop", false]])
  document.addEventListener(kind, (event) => {
    if (![...(event.dataTransfer?.types ?? [])].includes("Files")) return;
    event.preventDefault();
    document.body.classList.toggle("over", over);
    if (kind === "drop") restore(event.dataTransfer.files[0]);
  });
start();
