// The history: what lies in the app's folder, the latest first.

import { $, ask, make } from "./page.js";

let last = "";
let opened = () => {};

export function begin(whenOpened) {
  opened = whenOpened;
  $("older").addEventListener("click", () => load(true));
  return load();
}

/** Read the list, or go on with it. */
export async function load(older = false) {
  let told;
  try {
    told = await ask(`/api/history${older ? `?before=${encodeURIComponent(last)}` : ""}`);
  } catch (error) {
    $("history-note").textContent = error.message;
    return;
  }
  if (!older) $("drawings").replaceChildren();
  $("drawings").append(...told.drawings.map(entry));
  last = told.drawings.at(-1)?.name ?? last;
  $("older").hidden = !told.more;
  $("history-note").textContent = $("drawings").childElementCount
    ? "Choose a drawing to see its pictures and load its settings into the form."
    : "Your drawings are kept here, also after a restart of the app.";
}

function entry(one) {
  const meta = `${one.method}, seeds ${one.seeds}, ${one.when}`;
  return make("li", {},
    make("button", { type: "button", onclick: () => open(one.name) },
      make("img", { src: one.picture, alt: "", loading: "lazy" }),
      make("span", { class: "what" }, one.prompt), make("span", { class: "meta" }, meta)));
}

async function open(name) {
  try {
    opened(await ask(`/api/history/${encodeURIComponent(name)}`));
  } catch (error) {
    $("history-note").textContent = error.message;
  }
}
