import assert from 'node:assert/strict';
import { describeError, isTrustError } from '@virt-trust/base/error.ts';
import { createMigrationJob, planMigration } from '@virt-trust/contract/manager/migration-operations.ts';
import type { MigrateVm } from '@virt-trust/contract/model/migration.ts';
import type { MigrationPlan } from '@virt-trust/contract/model/migration-plan.ts';
import { until } from '../src/until.ts';
import { runningVms } from '../src/vm.ts';
import type { Fleet } from './fleet.ts';

const PATIENCE = 180_000;

/** Plans for a VM `guest` from host-a to host-b in mode tls, and what comes of them. */
export class PairPlans {
  readonly #fleet: Fleet;

  constructor(fleet: Fleet) {
    this.#fleet = fleet;
  }

  order(more: Partial<MigrateVm> = {}): MigrateVm {
    return { vm: 'guest', from: 'host-a', to: 'host-b', mode: ['tls'], ...more };
  }

  plan(more: Partial<MigrateVm> = {}): Promise<MigrationPlan> {
    return this.#fleet.client.call(planMigration, { body: this.order(more) });
  }

  /** Waits for a plan; where none comes, the last one is for the reader of the failure. */
  async plannedSo(
    what: string,
    holds: (made: MigrationPlan) => boolean,
    more: Partial<MigrateVm> = {},
  ): Promise<MigrationPlan> {
    let last: MigrationPlan | undefined;
    return await until(what, PATIENCE, async () => {
      last = await this.plan(more);
      return holds(last) ? last : undefined;
    }).catch((error) =>
      assert.fail(`${describeError(error)}: ${JSON.stringify([last?.decision, last?.findings], null, 1)}`),
    );
  }

  /** What was mended is seen by the hosts, and told. */
  isReady(more: Partial<MigrateVm> = {}): Promise<MigrationPlan> {
    return this.plannedSo('be ready', ({ ready }) => ready, more);
  }

  /**
   * The plan names it, for that host, and says how to mend it; whatever else it finds is for the reader of a failure. What
   * agents report may be of a moment ago.
   */
  async finds(code: string, host: string | null, more: Partial<MigrateVm> = {}): Promise<MigrationPlan> {
    const are = (one: MigrationPlan['findings'][number]) => one.code === code && one.host === host;
    const made = await this.plannedSo(`find ${code}`, ({ findings }) => findings.some(are), more);
    assert.equal(made.ready, false, `${code}: ${JSON.stringify(made.findings, null, 1)}`);
    for (const { what, fix } of made.findings.filter(are)) assert.ok(what !== '' && fix !== '');
    return made;
  }

  /**
   * The migration itself fails with these words when it is made in spite of all; the VM stays where it was. Where it is
   * refused before it is tried, with other words, that goes by what agents reported a moment ago.
   */
  async failsWith(words: RegExp, more: Partial<MigrateVm> = {}): Promise<void> {
    const { vm, from, to } = this.order(more);
    const body = this.order({ force: true, ...more });
    await until(`fail with ${words}`, PATIENCE, async () => {
      const error = await this.#fleet.client
        .call(createMigrationJob, { body })
        .then((job) => this.#fleet.finished(job))
        .then(
          () => assert.fail('it was migrated'),
          (reason: unknown) => reason,
        );
      const said = describeError(error);
      const runs = await Promise.all(
        [from, to].map(async (host) => (await runningVms(this.#fleet.host(host))).includes(vm)),
      );
      assert.deepEqual(runs, [true, false], said);
      const isRefused = isTrustError(error, 'migration.refused') || said.startsWith('migration.refused: ');
      if (isRefused && !words.test(said)) return undefined;
      assert.match(said, words);
      return true;
    });
  }
}
