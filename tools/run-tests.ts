import { createWriteStream } from 'node:fs';
import { run } from 'node:test';
import { spec, tap } from 'node:test/reporters';
import { parseArgs } from 'node:util';

/**
 * Node's test runner for files in the order in which they are given, so that the longest can begin first (`node --test`
 * sorts them): --at-once N --report FILE FILES... Ends with 1 where a test failed.
 */
const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { 'at-once': { type: 'string' }, report: { type: 'string' } },
});

const events = run({ files: positionals, concurrency: Number(values['at-once'] ?? 1) });
events.on('test:fail', ({ todo }) => {
  if (todo === undefined || todo === false) process.exitCode = 1;
});
events.compose(new spec()).pipe(process.stdout);
events.compose(tap).pipe(createWriteStream(values.report ?? '/dev/null'));
