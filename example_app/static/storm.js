"use strict";

// The button "Expire and storm": kills the access token, sends many requests at once and draws
// when each began and ended, by the server's own clock, and how it came by its token.

const storm = document.getElementById("storm");
const ports = JSON.parse(storm.dataset.ports);
const requests = Number(storm.dataset.requests);
const start = document.getElementById("start");
const shared = { credentials: "include", cache: "no-store" };
const words = { rotated: "claimed", waited: "waited", row: "row", cache: "cache" };

start.addEventListener("click", async () => {
  start.disabled = true;
  say("");
  // One look at a time: they share a connection, and more of them would only queue for it.
  let looking = false;
  const watching = setInterval(async () => {
    if (looking) return;
    looking = true;
    await watchGrant();
    looking = false;
  }, 100);
  try {
    const before = (await json("/redemptions")).length;
    await call("/expire", { method: "POST" });
    const answers = await Promise.all(Array.from({ length: requests }, (_, number) => work(number)));
    const redemptions = (await json("/redemptions")).slice(before);
    draw(answers, redemptions);
  } catch (error) {
    say(error.message);
  }
  clearInterval(watching);
  await watchGrant();
  start.disabled = false;
});

// Browsers open six connections to one origin, so the requests are dealt out over the ports.
function work(number) {
  return json(at(ports[number % ports.length], "/work"), shared).catch((error) => ({ failed: error.message }));
}

// On the last port, where the storm leaves a connection free.
async function watchGrant() {
  await json(at(ports.at(-1), "/grant"), shared).then(showGrant, () => {});
}

function at(port, path) {
  return `${location.protocol}//${location.hostname}:${port}${path}`;
}

async function call(address, options) {
  const response = await fetch(address, options);
  if (response.status === 401) throw new Error("You have been signed out. Reload the page to sign in again.");
  if (!response.ok) throw new Error(`${address} answered ${response.status}.`);
  return response;
}

async function json(address, options) {
  return (await call(address, options)).json();
}

function draw(answers, redemptions) {
  const done = answers.filter((answer) => !answer.failed);
  const failed = answers.length - done.length;
  const count = (origin) => done.filter((answer) => answer.origin === origin).length;
  showFigures([
    [done.length, "requests answered"],
    [count("rotated"), "claimed"],
    [count("waited"), "waited"],
    [count("row") + count("cache"), "found the new token"],
    [redemptions.length, redemptions.length === 1 ? "redemption" : "redemptions"],
  ]);
  if (failed) say(`${failed} requests failed: ${answers.find((answer) => answer.failed).failed}`);
  const from = Math.min(...done.map((answer) => answer.began));
  const span = Math.max(...done.map((answer) => answer.ended)) - from || 1;
  const share = (time) => `${(100 * (time - from)) / span}%`;
  const timeline = document.getElementById("timeline");
  timeline.replaceChildren(...workers(done).map((worker) => drawWorker(worker, share)), scale(span, redemptions, share));
  document.getElementById("result").hidden = false;
}

function workers(answers) {
  const byProcess = Map.groupBy(answers, (answer) => answer.process);
  return [...byProcess.keys()].sort((a, b) => a - b).map((process) => {
    const its = byProcess.get(process).sort((a, b) => a.began - b.began || a.ended - b.ended);
    return { process, answers: its };
  });
}

function drawWorker({ process, answers }, share) {
  const lanes = element("div", "lanes");
  for (const answer of answers) {
    const bar = element("i", `bar ${words[answer.origin]}`);
    const milliseconds = Math.round(1000 * (answer.ended - answer.began));
    bar.title = `${words[answer.origin]}, ${milliseconds} ms, process ${process}, thread ${answer.thread}`;
    bar.style.left = share(answer.began);
    bar.style.width = `calc(${share(answer.ended)} - ${share(answer.began)})`;
    const lane = element("div", "lane");
    lane.append(bar);
    lanes.append(lane);
  }
  const worker = element("div", "worker");
  worker.append(element("span", "", `worker ${process}`), lanes);
  return worker;
}

function scale(span, redemptions, share) {
  const box = element("div", "scale");
  for (const part of [0, 0.25, 0.5, 0.75, 1]) {
    const label = element("span", "", `${Math.round(1000 * span * part)} ms`);
    label.style.left = `${100 * part}%`;
    box.append(label);
  }
  for (const redemption of redemptions) {
    const mark = element("i", "mark");
    mark.style.left = share(redemption.at);
    box.append(mark);
  }
  return box;
}

function showFigures(figures) {
  document.getElementById("figures").replaceChildren(...figures.map(([number, word]) => {
    const item = element("li");
    item.append(element("strong", "", number), word);
    return item;
  }));
}

function showGrant(facts) {
  for (const place of document.querySelectorAll("[data-fact]")) {
    place.textContent = facts[place.dataset.fact] ?? (place.dataset.fact === "claimed_by" ? "nobody" : "unknown");
  }
}

function say(text) {
  document.getElementById("status").textContent = text;
}

function element(tag, className = "", text = "") {
  const made = document.createElement(tag);
  made.className = className;
  made.textContent = text;
  return made;
}
