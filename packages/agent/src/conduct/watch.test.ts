import assert from 'node:assert/strict';
import { test } from 'node:test';
import { testMigrationOptions } from '@virt-trust/contract/model/fixtures.ts';
import type { MigrationOptions } from '@virt-trust/contract/model/migration-options.ts';
import {
  ABORT_JOB_POSTCOPY,
  domainAbortJob,
  domainAbortJobFlags,
  domainGetJobStats,
  domainMigrateSetMaxDowntime,
  domainMigrateStartPostCopy,
  domainSuspend,
} from '@virt-trust/libvirt/migration-protocol.ts';
import { VM } from './fixture-libvirt.ts';
import { orderOf } from './fixtures.ts';
import type { RpcClient } from './rpc-client.ts';
import { MigrationWatch } from './watch.ts';

const DOUBT_SECONDS = 30;

/** A watch at whose source libvirt says how much went over at each look; ends when the list is over. */
async function abandoned(
  sent: readonly number[],
  isPostCopy: boolean,
  said: { readonly options?: Partial<MigrationOptions>; readonly isCancelled?: boolean } = {},
): Promise<string[]> {
  const asked: string[] = [];
  const over = new AbortController();
  let looks = 0;
  const call = async (procedure: object, args: { flags?: number }) => {
    if (procedure === domainGetJobStats) {
      const processed = sent[looks++];
      if (looks >= sent.length) over.abort();
      const params = [
        { name: 'data_total', kind: 'ulong', value: 1000n },
        { name: 'data_processed', kind: 'ulong', value: BigInt(processed ?? 0) },
        { name: 'memory_iteration', kind: 'ulong', value: 2n },
      ];
      return { type: 2, params };
    }
    if (procedure === domainAbortJob) {
      asked.push('abort');
      if (isPostCopy) throw new Error('cannot abort migration in post-copy mode');
    }
    if (procedure === domainMigrateStartPostCopy) asked.push('post-copy');
    if (procedure === domainMigrateSetMaxDowntime || procedure === domainSuspend) {
      asked.push('refused');
      throw new Error('Requested operation is not valid');
    }
    if (procedure === domainAbortJobFlags) asked.push(`break ${args.flags}`);
    return {};
  };
  const watch = new MigrationWatch({
    order: orderOf({ doubtSeconds: DOUBT_SECONDS, options: testMigrationOptions(said.options) }),
    source: { isLost: false, call } as unknown as RpcClient,
    domain: VM,
    proof: { tls: async () => undefined, connection: async () => undefined },
    // Each look is a third of the time of doubt after the one before.
    now: () => (looks * DOUBT_SECONDS * 1000) / 3,
    isCancelled: () => said.isCancelled ?? false,
    onSeen: async () => {},
  });
  await watch.abandon();
  await watch.run(over.signal);
  return asked;
}

test('a transfer to a destination that was lost is ended', async () => {
  assert.deepEqual(await abandoned([1, 2], false), ['abort']);
});

test('in post-copy it goes on as long as memory goes over, also without the libvirt of the destination', async () => {
  assert.deepEqual(await abandoned([1, 2, 3, 4, 5, 6], true), ['abort']);
});

test('post-copy of which nothing goes over any more is broken after the time of doubt, once', async () => {
  assert.deepEqual(await abandoned([1, 2, 2, 2, 2, 2], true), ['abort', `break ${ABORT_JOB_POSTCOPY}`]);
});

for (const [what, said] of [
  ['is over that aborts', { options: { timeoutSeconds: 1, timeoutAction: 'abort' } }],
  ['is over that suspends', { options: { timeoutSeconds: 1, timeoutAction: 'suspend' } }],
] as const)
  test(`post-copy of which nothing goes over any more is broken also where a time ${what}`, async () => {
    const options = { postCopy: true, ...said.options };
    assert.deepEqual(await abandoned([1, 2, 2, 2, 2, 2], true, { options }), [
      'abort',
      'post-copy',
      `break ${ABORT_JOB_POSTCOPY}`,
    ]);
  });

test('post-copy of which nothing goes over any more is broken also where somebody cancelled', async () => {
  const said = { options: { postCopy: true }, isCancelled: true };
  assert.deepEqual((await abandoned([1, 2, 2, 2, 2, 2], true, said)).slice(-1), [
    `break ${ABORT_JOB_POSTCOPY}`,
  ]);
});

test('what libvirt refuses of an option keeps nothing else from being done', async () => {
  const asked = await abandoned([1, 2, 2, 2, 2, 2], true, { options: { downtimeMs: 5 } });
  assert.ok(asked.includes('refused'));
  assert.equal(asked.filter((one) => one === `break ${ABORT_JOB_POSTCOPY}`).length, 1);
});
