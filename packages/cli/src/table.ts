/** Between columns; where a terminal is too narrow for that, one. */
const GAP = 2;
/** A cell may go on below after a space, or after a comma of a list. */
const BREAKS = /(?<= )|(?<=,)(?! )/;

/**
 * The lines of a table whose columns are as wide as their widest cell. A row is one line, but where `terminal` columns
 * are too few for it: there the widest cells go on below, broken between words. Where not even words fit side by side,
 * each row is a list of its cells with their headings.
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
    Math.max(...all.flatMap((row) => piecesOf(row[column] ?? '').map((piece) => piece.trimEnd().length))),
  );
  for (const gap of [GAP, 1]) {
    const room = terminal - gap * (headings.length - 1);
    if (sum(natural) <= room && gap === GAP) return all.map((row) => lineOf(row, natural, GAP));
    if (sum(least) <= room) {
      const widths = narrowed(natural, least, room);
      return all.flatMap((row) => linesOf(row, widths, gap));
    }
  }
  return listed(all, terminal);
}

/** Rows below each other: the first cell, and beneath it the others with their headings. */
function listed([headings = [], ...rows]: readonly (readonly string[])[], terminal: number): string[] {
  const margin = Math.max(...headings.slice(1).map((heading) => heading.length));
  const width = Math.max(terminal - margin - 2 * GAP, 1);
  return rows.flatMap(([first = '', ...others]) => [
    first,
    ...others.flatMap((cell, index) => {
      if (cell === '') return [];
      const heading = headings[index + 1] ?? '';
      return wrapped(cell, width).map((line, at) => `  ${(at === 0 ? heading : '').padEnd(margin)}  ${line}`);
    }),
  ]);
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
  for (const piece of piecesOf(text)) {
    const longer = `${lines.at(-1) ?? ''}${piece}`;
    if (longer === piece || longer.trimEnd().length <= width) lines[lines.length - 1] = longer;
    else lines.push(piece);
  }
  return lines.map((line) => line.trimEnd());
}

function piecesOf(text: string): string[] {
  return text.split(BREAKS);
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, one) => total + one, 0);
}
