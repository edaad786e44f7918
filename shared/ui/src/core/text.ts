// Every word a person reads on a page. The catalogue is one flat list per language, shared with the services; the keys
// are a type, so a page cannot ask for a sentence that does not exist. The build leaves out what a page never names.

import deCatalogue from "../../../text/de.json";
import enCatalogue from "../../../text/en.json";
import { keepLang, readLang, type Lang } from "./preference.ts";

export type Key = keyof typeof enCatalogue;
export type PluralKey = BaseOf<Key>;
type BaseOf<K> = K extends `${infer Base}.one` ? Base : never;
export type Values = Record<string, string | number>;
type KeyOf<Family extends string> = Extract<Key, `${Family}${string}`>;

// Parity: `de` must have every English key, and `extra` is only assignable when it has no other.
const de: Record<Key, string> = deCatalogue;
const en: Record<keyof typeof deCatalogue, string> = enCatalogue;
const catalogues: Record<Lang, Record<Key, string>> = { de, en };

/** The words of a part of the page that came later. */
export function addWords(more: Record<Lang, Record<string, string>>): void {
  Object.assign(de, more.de);
  Object.assign(en, more.en);
}

/** A plain cell, or a signal where views follow it; the small pages in front of the gate carry no signals. */
export let lang: { value: Lang } = { value: "de" };
let told = () => {};

export function keepLanguageIn(cell: { value: Lang }): void {
  lang = cell;
}

export function onLanguage(tell: () => void): void {
  told = tell;
}

export function startLanguage(): void {
  lang.value = readLang();
}

export function chooseLanguage(chosen: Lang): void {
  keepLang(chosen);
  lang.value = chosen;
  told();
}

export function t(key: Key, values?: Values): string {
  return fill(catalogues[lang.value][key] ?? key, values);
}

/** A sentence with a number in it; the form follows the language's plural rule. */
export function count(base: PluralKey, number: number, values?: Values): string {
  const form = new Intl.PluralRules(lang.value).select(number) === "one" ? "one" : "other";
  return t(`${base}.${form}` as Key, { count: amount(number), ...values });
}

/** The sentence for a code that came over the wire, or null if this page has none for it. */
export function sentence<Family extends "error." | "finding." | "chat.phase." | "tool.name.">(family: Family, code: string): string | null {
  const text = catalogues[lang.value][`${family}${code}` as KeyOf<Family>];
  return text === undefined ? null : text;
}

/** Our sentence for an error, or the server's own where this page is older than the code. */
export function explain(code: string, message = ""): string {
  return sentence("error.", code) ?? (message !== "" ? message : t("error.unknown", { code }));
}

export function fill(text: string, values: Values = {}): string {
  return text.replace(/\{([a-z_]+)\}/g, (whole, name: string) => (name in values ? String(values[name]) : whole));
}

// A day is written day first and a clock has 24 hours for the readers of both languages.
const region: Record<Lang, string> = { de: "de-DE", en: "en-GB" };

export function amount(number: number): string {
  return new Intl.NumberFormat(region[lang.value]).format(number);
}

/** 34,512 → "35k" / "35 Tsd." where a header has no room for more. */
export function shortAmount(number: number): string {
  if (number < 10_000) return amount(number);
  return new Intl.NumberFormat(region[lang.value], { notation: "compact", maximumFractionDigits: 1 }).format(number);
}

/** Billionths of a dollar as dollars; two places, or as many as a small amount needs to be seen. */
export function money(nanoUsd: number): string {
  const digits = nanoUsd > 0 && nanoUsd < 10_000_000 ? 4 : 2;
  return new Intl.NumberFormat(region[lang.value], { style: "currency", currency: "USD", minimumFractionDigits: digits, maximumFractionDigits: digits }).format(nanoUsd / 1e9);
}

/** What share of a whole a part is. */
export function share(part: number, whole: number): string {
  return new Intl.NumberFormat(region[lang.value], { style: "percent", maximumFractionDigits: 0 }).format(whole > 0 ? part / whole : 0);
}

export function timeOfDay(at_ms: number): string {
  return new Intl.DateTimeFormat(region[lang.value], { hour: "2-digit", minute: "2-digit" }).format(at_ms);
}

export function dateAndTime(at_ms: number): string {
  return new Intl.DateTimeFormat(region[lang.value], { dateStyle: "medium", timeStyle: "medium" }).format(at_ms);
}

const steps: readonly [Intl.RelativeTimeFormatUnit, number][] = [
  ["day", 86_400_000],
  ["hour", 3_600_000],
  ["minute", 60_000],
  ["second", 1_000],
];

/** "vor 3 Minuten", "in 2 hours"; under five seconds it is now, because clocks differ by as much. */
export function relative(at_ms: number, now_ms: number): string {
  const distance = at_ms - now_ms;
  if (Math.abs(distance) < 5_000) return t("app.just_now");
  const [unit, size] = steps.find(([, size]) => Math.abs(distance) >= size) ?? ["second", 1_000];
  return new Intl.RelativeTimeFormat(region[lang.value], { numeric: "always" }).format(Math.trunc(distance / size), unit);
}
