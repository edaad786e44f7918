// The build puts the words and the style of a part that is fetched later behind these names.

declare module "words:later" {
  const words: Record<"de" | "en", Record<string, string>>;
  export default words;
}

declare module "style:later" {
  const style: string;
  export default style;
}
