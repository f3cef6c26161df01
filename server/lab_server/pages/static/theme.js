// @ts-check
// Light or dark, before the page is painted: a classic script, since modules wait for the page.
(() => {
  const root = document.documentElement;
  const read = () => { try { return localStorage.getItem("theme"); } catch { return null; } };
  const known = read();
  if (known === "light" || known === "dark") root.dataset.theme = known;
  document.addEventListener("DOMContentLoaded", () => {
    const button = document.getElementById("theme");
    if (!button) return;
    button.hidden = false;
    const isDark = () => root.dataset.theme
      ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    const label = () => { button.textContent = isDark() ? "Light theme" : "Dark theme"; };
    label();
    button.addEventListener("click", () => {
      root.dataset.theme = isDark() ? "light" : "dark";
      try { localStorage.setItem("theme", root.dataset.theme); } catch { /* for this page, then */ }
      label();
      document.dispatchEvent(new Event("themechange"));
    });
  });
  // of buttons that come later, too: parts of live pages are replaced
  document.addEventListener("click", (event) => {
    const button = event.target instanceof Element ? event.target.closest("[data-confirm]") : null;
    if (button && !confirm(/** @type {HTMLElement} */ (button).dataset.confirm)) event.preventDefault();
  });
})();
