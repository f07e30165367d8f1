import type { Suite, SuiteResult } from './suite.ts';

/** When, how and where a suite was run. */
export interface RunFacts {
  readonly at: Date;
  readonly command: string;
  readonly machine: string;
}

/** The text of the results with the section of one suite replaced, or put at the end. */
export function replaceSection(
  text: string,
  suite: Pick<Suite, 'title'>,
  result: SuiteResult,
  run: RunFacts,
): string {
  const heading = `## ${suite.title}`;
  const section = [
    heading,
    '',
    `${run.at.toISOString().slice(0, 10)}, \`${run.command}\`, ${run.machine}. Ratios say more than values.`,
    '',
    '| what | value | ratio |',
    '|---|---|---|',
    ...result.rows.map(({ what, value, ratio }) => `| ${what} | ${value} | ${ratio ?? ''} |`),
    '',
    ...result.notes.flatMap((note) => [note, '']),
  ].join('\n');
  const [head = '', ...sections] = text.split(/^(?=## )/m);
  const index = sections.findIndex((one) => one.startsWith(`${heading}\n`));
  if (index === -1) sections.push(section);
  else sections[index] = section;
  return `${[head.trimEnd(), ...sections.map((one) => one.trimEnd())].join('\n\n')}\n`;
}
