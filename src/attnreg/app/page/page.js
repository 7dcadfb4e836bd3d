// What all parts of the page use: elements, requests, and what a screen reader hears.

export const $ = (id) => document.getElementById(id);

/** An element with attributes and children; texts become text, never markup. */
export function make(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value === true) made.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) made.setAttribute(name, value);
  }
  made.append(...children.filter((one) => one !== null && one !== undefined));
  return made;
}

/** Say something to who cannot see the page. */
export function say(text) {
  $("heard").textContent = text;
}

export class Refused extends Error {
  constructor(errors) {
    super(Object.values(errors).join(" "));
    this.errors = errors;
  }
}

const SILENT = "The app does not answer. Is it still running?";

/** The JSON that an address answers with; `Refused` with a sentence for each field, whatever goes wrong. */
export async function ask(path, body, type = "application/json") {
  const post = body !== undefined;
  const sent = post && type === "application/json" ? JSON.stringify(body) : body;
  let answer, told;
  try {
    answer = await fetch(path, post ? { method: "POST", body: sent, headers: { "Content-Type": type } } : {});
    told = await answer.json();
  } catch {
    throw new Refused({ form: SILENT, silent: "" });
  }
  if (!answer.ok) throw new Refused(told.errors ?? { form: `The app answered with ${answer.status}.` });
  return told;
}

/** Lets a function run when it has not been called for some milliseconds. */
export function calmly(run, milliseconds) {
  let timer;
  return (...given) => {
    clearTimeout(timer);
    timer = setTimeout(() => run(...given), milliseconds);
  };
}
