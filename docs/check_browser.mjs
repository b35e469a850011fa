// Walks through `sae serve` in headless Chromium: with the keyboard alone, without scripts, in a frame of another page, on a narrow
// screen. Writes screenshots. Ends with status 1 if anything is not as it should be.
//
// Needs Node.js 20 with playwright-core 1.64 (npm install playwright-core), Chromium, and the program.
//
//     cargo run --release -- demo --run demo-run
//     node docs/check_browser.mjs demo-run screenshots
//
// It writes labels, so it works on a copy of the run's labels: the file is put back at the end.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { copyFileSync, existsSync, mkdirSync, readdirSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import { join } from "node:path";
import { createRequire } from "node:module";

const { chromium } = createRequire(join(process.cwd(), "x.js"))("playwright-core");
const [run, out] = process.argv.slice(2);
const program = process.env.SAE ?? "target/release/sae";
mkdirSync(out, { recursive: true });

/** The program, once it has printed its address. */
async function serve() {
  const child = spawn(program, ["serve", "--run", run], { stdio: ["ignore", "pipe", "inherit"] });
  const address = await new Promise((found, failed) => {
    let text = "";
    child.stdout.on("data", (bytes) => {
      text += bytes;
      const line = text.match(/http:\S+token=\w+/);
      if (line) found(line[0]);
    });
    child.on("exit", (status) => failed(new Error(`sae serve ended with status ${status}`)));
  });
  return { child, address: new URL(address) };
}

/** Opens a page whose errors count: of scripts, of the console, of requests. */
async function open(context, problems) {
  const page = await context.newPage();
  page.on("pageerror", (error) => problems.push(`${page.url()}: ${error}`));
  page.on("console", (message) => message.type() === "error" && problems.push(`${page.url()}: ${message.text()}`));
  page.on("response", (answer) => answer.status() >= 400 && problems.push(`${answer.status()} ${answer.url()}`));
  return page;
}

/** Presses Tab until what has the focus is as wanted; what was passed, if it never is. */
async function tabTo(page, wanted, most = 80) {
  const passed = [];
  for (let n = 0; n < most; n++) {
    await page.keyboard.press("Tab");
    const at = await page.evaluate(() => {
      const at = document.activeElement;
      const style = getComputedStyle(at);
      const visible = style.outlineStyle !== "none" || style.boxShadow !== "none";
      return { tag: at.tagName, name: at.name ?? "", href: at.getAttribute("href") ?? "", text: at.textContent.trim(), visible };
    });
    if (wanted(at)) {
      assert(at.visible, `the focus cannot be seen on ${JSON.stringify(at)}`);
      return at;
    }
    passed.push(`${at.tag} ${at.name}${at.href}`);
  }
  assert.fail(`never reached; passed ${passed.join(", ")}`);
}

/** All images have arrived, heat maps too. */
async function complete(page) {
  await page.waitForFunction(() => document.querySelectorAll("[data-later]").length === 0, null, { timeout: 20_000 });
  // Images below the fold are loaded when they are scrolled to.
  await page.evaluate(() => document.querySelectorAll("img").forEach((image) => (image.loading = "eager")));
  await page.waitForFunction(() => [...document.images].every((image) => image.complete), null, { timeout: 20_000 });
  const broken = await page.evaluate(() => [...document.images].filter((image) => !image.naturalWidth).map((image) => image.src));
  assert.deepEqual(broken, [], "images that do not load");
}

/** What every page has: a language, a title, one heading of the first rank, names for images and fields. */
async function accessible(page) {
  const found = await page.evaluate(() => ({
    language: document.documentElement.lang,
    title: document.title,
    headings: document.querySelectorAll("h1").length,
    images: [...document.images].filter((image) => !image.hasAttribute("alt")).length,
    fields: [...document.querySelectorAll("input:not([type=hidden]),select,textarea")].filter(
      (field) => !field.labels?.length && !field.getAttribute("aria-label"),
    ).length,
    wide: document.documentElement.scrollWidth - document.documentElement.clientWidth,
  }));
  const { title, ...rest } = found;
  assert(title.length > 3, `title ${title}`);
  assert.deepEqual(rest, { language: "en", headings: 1, images: 0, fields: 0, wide: rest.wide }, page.url());
  return found.wide;
}

const { child, address } = await serve();
const at = (path) => `${address.origin}${path}`;
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
});
const problems = [];
const saes = join(run, "features");
const labels = readdirSync(saes).map((name) => join(saes, name, "labels.json"));
labels.filter(existsSync).forEach((file) => copyFileSync(file, `${file}.kept`));

try {
  // The token leaves the address, and stays in a cookie.
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 } });
  const page = await open(context, problems);
  await page.goto(address.href);
  assert(!page.url().includes("token"), page.url());
  console.log("the address with the token opens", new URL(page.url()).pathname);

  // With the keyboard alone: skip to the page, search, open a feature, label it.
  await page.goto(at("/features"));
  await tabTo(page, (at) => at.href === "#main", 1);
  await page.keyboard.press("Enter");
  await tabTo(page, (at) => at.name === "search");
  await page.keyboard.type("class:cross");
  await page.keyboard.press("Enter");
  await page.waitForURL(/search=class/);
  const link = await tabTo(page, (at) => /^\/f\/\d+/.test(at.href));
  await page.keyboard.press("Enter");
  await page.waitForURL(/\/f\/\d+/);
  await complete(page);
  await tabTo(page, (at) => at.tag === "SUMMARY");
  await page.keyboard.press("Enter");
  await tabTo(page, (at) => at.name === "label", 1);
  const label = `seen in a browser ${Date.now()}`;
  await page.keyboard.press("Control+A");
  await page.keyboard.type(label);
  await Promise.all([page.waitForNavigation(), page.keyboard.press("Enter")]);
  await page.reload();
  assert.equal(await page.inputValue("[name=label]"), label);
  console.log(`with the keyboard alone: skipped the menu, searched, opened ${link.href}, labeled it`);
  await page.screenshot({ path: join(out, "feature.png") });

  // Every page: accessible, complete, not wider than the screen, on a narrow one as well.
  const paths = ["/features", link.href, "/s/0", "/filter", "/run"];
  const contrasts = await page.$$eval("nav a", (links) => links.map((link) => link.getAttribute("href")));
  paths.push(...contrasts.filter((href) => href.startsWith("/contrast")));
  for (const [name, width] of [["wide", 1280], ["narrow", 400]]) {
    await page.setViewportSize({ width, height: 900 });
    for (const path of paths) {
      await page.goto(at(path));
      await complete(page);
      const wide = await accessible(page);
      assert(wide <= 0, `${path} is ${wide} pixels wider than a screen of ${width}`);
      await page.screenshot({ path: join(out, `${name}-${path.replace(/\W+/g, "-").slice(1)}.png`) });
    }
    console.log(`${name}: ${paths.join(" ")}`);
  }

  // Without scripts, everything but what comes later is there, and a link leads to that.
  const plain = await browser.newContext({ javaScriptEnabled: false });
  const still = await open(plain, problems);
  await still.goto(address.href);
  for (const path of paths) {
    const answer = await still.goto(at(path));
    assert(answer.ok() && (await still.locator("h1").count()) === 1, path);
  }
  await still.goto(at("/features"));
  await still.fill("[name=search]", "class:cross");
  await still.press("[name=search]", "Enter");
  assert(still.url().includes("search=class"), still.url());
  console.log("without scripts: the same pages, and the search");

  // In the frame of another page, as in a notebook: of the same host, and of another.
  const frames = createServer((request, answer) => {
    const inside = new URL(link.href, address.origin);
    inside.searchParams.set("token", address.searchParams.get("token"));
    answer.setHeader("content-type", "text/html");
    answer.end(`<!doctype html><iframe width=1200 height=800 src="${inside}"></iframe>`);
  });
  await new Promise((ready) => frames.listen(0, "127.0.0.1", ready));
  for (const host of ["127.0.0.1", "localhost"]) {
    const notebook = await open(await browser.newContext(), problems);
    await notebook.goto(`http://${host}:${frames.address().port}/`);
    const frame = notebook.frameLocator("iframe");
    await frame.locator("h1").waitFor();
    await frame.locator("nav a[href^='/features']").first().click();
    await frame.locator("[name=search]").waitFor();
    console.log(`in a frame of a page of ${host}: a feature, and from there the table`);
  }
  frames.close();

  // Without the token there is nothing.
  const stranger = await (await browser.newContext()).newPage();
  const refused = await stranger.goto(at("/features"));
  assert.equal(refused.status(), 403);
  console.log("without the token: status 403");

  assert.deepEqual(problems, [], "errors of scripts, of the console and of requests");
  console.log("no errors");
} finally {
  labels.forEach((file) => {
    if (existsSync(`${file}.kept`)) {
      copyFileSync(`${file}.kept`, file);
      rmSync(`${file}.kept`);
    } else {
      rmSync(file, { force: true });
    }
  });
  await browser.close();
  child.kill("SIGINT");
}
