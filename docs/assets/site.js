// What the theme leaves out for readers who use a keyboard or a screen reader.
const mend = () => {
  document.querySelector(".md-search")?.setAttribute("aria-label", "Search");
  // Navigation within navigation, and a copy button, are no landmarks of their own.
  for (const nav of document.querySelectorAll(".md-nav .md-nav, .md-code__nav")) {
    nav.setAttribute("role", "none");
    ["aria-label", "aria-labelledby", "aria-expanded"].forEach((name) => nav.removeAttribute(name));
  }
  // Code and tables that are wider than their place are scrolled with the arrow keys.
  document.querySelectorAll("pre > code, .md-typeset__scrollwrap").forEach((wide) => wide.setAttribute("tabindex", "0"));
};
new MutationObserver(mend).observe(document.body, { childList: true, subtree: true });
mend();
