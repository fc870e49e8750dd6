// Bootstrap reads the colour scheme from an attribute; this sets it to what the person prefers, before the page is drawn.
const dark = window.matchMedia("(prefers-color-scheme: dark)");
const apply = () => document.documentElement.setAttribute("data-bs-theme", dark.matches ? "dark" : "light");
dark.addEventListener("change", apply);
apply();
