// The part of the tenant page that comes when it is asked for: devices, levels and gates,
// templates for the first hour.

import style from "style:later";
import more from "words:later";
import { addWords } from "../core/text.ts";
import "./chat.tsx"; // so that nothing of the page is in here a second time

addWords(more);
const sheet = new CSSStyleSheet();
sheet.replaceSync(style);
document.adoptedStyleSheets = [...document.adoptedStyleSheets, sheet];

export { Devices } from "./device-panel.tsx";
export { FirstHour } from "./first-hour.tsx";
export { Levels } from "./levels.tsx";
