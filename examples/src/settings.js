// The settings that the examples' server provides.

const response = await fetch("/settings.json");
if (!response.ok) throw new Error(`The settings of the examples are missing: ${response.status}`);

export const settings = await response.json();
