// Where everything is; the server of the examples hands it out.

const answer = await fetch("/settings.json");
if (!answer.ok) throw new Error(`The settings of the examples are missing: ${answer.status}`);

export const settings = await answer.json();
