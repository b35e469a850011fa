// Fetches what a page shows later, such as heat maps that were still being computed. Without this script, a link does the same.
for (const part of document.querySelectorAll("[data-later]")) {
  fetch(part.dataset.later)
    .then((answer) => (answer.ok ? answer.text() : Promise.reject(answer.status)))
    .then((text) => {
      const found = new DOMParser().parseFromString(text, "text/html").getElementById(part.id);
      if (found) part.replaceWith(found);
    })
    .catch(() => {});
}
