import { writeSync } from 'node:fs';
import type { TestContext } from 'node:test';
import { DAY } from '@virt-trust/base/instant.ts';
import { settableClock } from '../store/fixtures.ts';
import { renewingFleet } from './fixtures.ts';

// A process for renew-job.test.ts to kill: it stands in the middle of a renewal, says so, and stays there.
const [directory = ''] = process.argv.slice(2);
const never = { after: () => {} } as unknown as TestContext;
const fleet = await renewingFleet(never, directory, settableClock());
fleet.onProvision(async () => {
  writeSync(1, 'reached\n');
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
});
await fleet.jobs.start();
for (const name of ['h1', 'h2']) await fleet.add(name);
fleet.clock.advance(110 * DAY);
fleet.scheduler.start();
setInterval(() => {}, 1000);
