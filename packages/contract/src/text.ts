/** By far the most texts, and nothing in them to replace. */
const PRINTABLE_ASCII = /^[ -~]*$/;

/** `value` as the contract's Text: well-formed, bounded, without control characters but newline and tab. */
export function textOf(value: string, length = 8192): string {
  if (value.length <= length && PRINTABLE_ASCII.test(value)) return value;
  return (
    value
      .slice(0, length)
      .toWellFormed()
      // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what the contract refuses
      .replace(/[\u0000-\u0008\u000b-\u001f\u007f]/g, '�')
  );
}

/** `value` as the contract's Line: like Text, on one line. */
export function lineOf(value: string, length = 1024): string {
  return textOf(value, length).replace(/[\n\t]/g, ' ');
}
