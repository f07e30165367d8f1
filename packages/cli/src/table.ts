/** Between columns; where a terminal is too narrow for that, one. */
const GAP = 2;

/**
 * The lines of a table whose columns are as wide as their widest cell. A row is one line, but where `terminal` columns
 * are too few for it: there the widest cells go on below, broken between words. Where not even words fit, it is left
 * to the terminal.
 */
export function tableLines(
  headings: readonly string[],
  rows: readonly (readonly string[])[],
  terminal = Number.POSITIVE_INFINITY,
): string[] {
  const all = [headings.map((heading) => heading.toUpperCase()), ...rows].map((row) =>
    headings.map((_, column) => (row[column] ?? '').replace(/\s/g, ' ')),
  );
  const natural = headings.map((_, column) => Math.max(...all.map((row) => row[column]?.length ?? 0)));
  const least = headings.map((_, column) =>
    Math.max(...all.flatMap((row) => (row[column] ?? '').split(' ').map((word) => word.length))),
  );
  for (const gap of [GAP, 1]) {
    const room = terminal - gap * (headings.length - 1);
    if (sum(natural) <= room && gap === GAP) return all.map((row) => lineOf(row, natural, GAP));
    if (sum(least) <= room) {
      const widths = narrowed(natural, least, room);
      return all.flatMap((row) => linesOf(row, widths, gap));
    }
  }
  return all.map((row) => lineOf(row, natural, GAP));
}

/** Takes from the widest column that still can give, until all fit. */
function narrowed(natural: readonly number[], least: readonly number[], room: number): number[] {
  const widths = [...natural];
  for (let over = sum(widths) - room; over > 0; over--) {
    const spare = widths.map((width, column) => (width > (least[column] ?? 0) ? width : 0));
    const widest = spare.indexOf(Math.max(...spare));
    widths[widest] = (widths[widest] ?? 0) - 1;
  }
  return widths;
}

function linesOf(row: readonly string[], widths: readonly number[], gap: number): string[] {
  const cells = row.map((cell, column) => wrapped(cell, widths[column] ?? 0));
  const height = Math.max(...cells.map((cell) => cell.length));
  return Array.from({ length: height }, (_, line) =>
    lineOf(
      cells.map((cell) => cell[line] ?? ''),
      widths,
      gap,
    ),
  );
}

function lineOf(cells: readonly string[], widths: readonly number[], gap: number): string {
  return cells
    .map((cell, column) => cell.padEnd(widths[column] ?? 0))
    .join(' '.repeat(gap))
    .trimEnd();
}

function wrapped(text: string, width: number): string[] {
  const lines = [''];
  for (const word of text.split(' ')) {
    const last = lines.at(-1) ?? '';
    if (last === '') lines[lines.length - 1] = word;
    else if (last.length + 1 + word.length <= width) lines[lines.length - 1] = `${last} ${word}`;
    else lines.push(word);
  }
  return lines;
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, one) => total + one, 0);
}
