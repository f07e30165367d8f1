import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import type { Clock } from '@virt-trust/base/clock.ts';
import { type Instant, instant } from '@virt-trust/base/instant.ts';
import { type OpenStore, openStore } from './open-store.ts';

/** A directory that goes with the test. */
export function temporaryDirectory(t: TestContext): string {
  const path = mkdtempSync(join(tmpdir(), 'virt-trust-'));
  t.after(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

/** A clock that the test sets. */
export function settableClock(start = 1_800_000_000_000): Clock & { advance(milliseconds: number): void } {
  let now = start;
  return {
    now: (): Instant => instant(now),
    advance: (milliseconds) => {
      now += milliseconds;
    },
  };
}

/** A store in a directory of its own, closed with the test. */
export function temporaryStore(t: TestContext, clock: Clock = settableClock()): OpenStore & { path: string } {
  const path = temporaryDirectory(t);
  const store = openStore(path, clock);
  t.after(() => store.close());
  return { ...store, path };
}
