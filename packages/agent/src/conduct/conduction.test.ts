import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { MigrationOrder } from '@virt-trust/contract/model/migration.ts';
import { Conduction } from './conduction.ts';
import { FakeError, FakeLibvirt, VM_UUID } from './fixture-libvirt.ts';
import { FakeTime, orderOf } from './fixtures.ts';
import type { Journal } from './outcome.ts';
import { tcpStreams } from './parameters.ts';
import type { PeerDoor } from './parts.ts';
import { recover } from './recovery.ts';
import { RpcClient } from './rpc-client.ts';
import { MigrationWatch } from './watch.ts';

const RUNNING: [number, number] = [1, 1];
const PAUSED_MIGRATING: [number, number] = [3, 2];

/** Two libvirts and what conducts between them. */
class Pair {
  readonly source = new FakeLibvirt(RUNNING);
  readonly destination = new FakeLibvirt(null);
  readonly journal: Journal[] = [];
  readonly time = new FakeTime();
  peer: PeerDoor | null = null;
  cancelled = false;

  async run(change: Partial<MigrationOrder> = {}) {
    return await new Conduction(this.#parts(change)).run();
  }

  async recover(journal: Journal) {
    return await recover(journal, this.#parts({}));
  }

  #parts(change: Partial<MigrationOrder>) {
    const order = orderOf(change);
    return {
      order,
      openSource: () => RpcClient.open(this.source.connect(), { where: 'host-a' }),
      openDestination: async () => RpcClient.open(this.destination.connect(), { where: 'host-b' }),
      peer: this.peer,
      streams: async () =>
        tcpStreams(order.stream ?? { address: '::1', listenAddress: null, tlsDestination: null }),
      journal: async (journal: Journal) => void this.journal.push(journal),
      isCancelled: () => this.cancelled,
      watch: (source: RpcClient, domain: { name: string; uuid: string; id: number }) =>
        new MigrationWatch({
          order,
          source,
          domain,
          proof: { tls: async () => undefined, connection: async () => undefined },
          now: this.time.now,
          isCancelled: () => this.cancelled,
          onSeen: async () => {},
        }),
      streamTrouble: () => null,
      ...this.time,
    };
  }
}

describe('Conduction', () => {
  it('goes through the phases of libvirt’s protocol, and the VM runs at the destination alone', async () => {
    const pair = new Pair();
    assert.deepEqual(await pair.run(), { phase: 'done', step: null, runsOn: 'destination', error: null });
    assert.deepEqual(pair.source.calls, ['BEGIN', 'PERFORM', 'CONFIRM']);
    assert.deepEqual(pair.destination.calls, ['PREPARE', 'FINISH']);
    assert.equal(pair.source.vm, null);
    assert.deepEqual(pair.destination.vm, [1, 2]);
  });

  it('makes it durable that Finish may have been heard before it is sent', async () => {
    const pair = new Pair();
    let sent: boolean | undefined;
    pair.destination.answers['DOMAIN_MIGRATE_FINISH3_PARAMS'] = () => {
      sent = pair.journal.at(-1)?.finishSent;
      throw new FakeError('broken');
    };
    pair.destination.answers['DOMAIN_GET_STATE'] = () => ({ state: 5, reason: 6 });
    await pair.run();
    assert.equal(sent, true);
    assert.ok(pair.journal.some(({ step, finishSent }) => step === 'perform' && !finishSent));
  });

  it("leaves the VM at the source with libvirt's full words where Prepare is refused", async () => {
    const pair = new Pair();
    pair.destination.answers['DOMAIN_MIGRATE_PREPARE3_PARAMS'] = () => {
      throw new FakeError("internal error: unable to find 'pc-9.9'\nmore");
    };
    const outcome = await pair.run();
    assert.equal(outcome.phase, 'failed');
    assert.equal(outcome.step, 'prepare');
    assert.equal(outcome.runsOn, 'source');
    assert.match(outcome.error?.message ?? '', /unable to find 'pc-9.9'\nmore/);
    assert.deepEqual(pair.source.calls, ['BEGIN', 'CONFIRM cancelled']);
  });

  it('sends the VM nowhere else than was decided, whatever the destination answers', async () => {
    const pair = new Pair();
    pair.destination.answers['DOMAIN_MIGRATE_PREPARE3_PARAMS'] = () => ({
      cookieOut: new Uint8Array(),
      uriOut: 'unix:///run/libvirt/libvirt-sock',
    });
    const outcome = await pair.run();
    assert.equal(outcome.phase, 'failed');
    assert.equal(outcome.runsOn, 'source');
    assert.deepEqual(pair.source.calls, ['BEGIN', 'CONFIRM cancelled']);
    assert.deepEqual(pair.destination.calls, ['PREPARE', 'FINISH cancelled']);
  });

  it('has nothing prepared here that a source over the network describes as another VM', async () => {
    const pair = new Pair();
    const outcome = await pair.run({
      source: { kind: 'tcp', address: '192.0.2.1', port: 16509 },
      destination: { kind: 'local' },
    });
    assert.match(outcome.error?.message ?? '', /definition of another VM/);
    assert.deepEqual(pair.destination.calls, []);
    assert.deepEqual(pair.source.calls, ['BEGIN', 'CONFIRM cancelled']);
  });

  it('has the destination remove what it prepared where Perform fails', async () => {
    const pair = new Pair();
    pair.source.answers['DOMAIN_MIGRATE_PERFORM3_PARAMS'] = () => {
      throw new FakeError('operation failed: migration out job: unexpectedly failed');
    };
    pair.destination.answers['DOMAIN_MIGRATE_FINISH3_PARAMS'] = () => {
      throw new FakeError('internal error: qemu unexpectedly closed the monitor: no memory');
    };
    const outcome = await pair.run();
    assert.deepEqual([outcome.phase, outcome.step, outcome.runsOn], ['failed', 'perform', 'source']);
    // What the destination's QEMU died of says more.
    assert.match(outcome.error?.message ?? '', /no memory/);
    assert.deepEqual(pair.destination.calls, ['PREPARE', 'FINISH cancelled']);
  });

  it('has the VM go on at the source where libvirt says that Finish failed and the VM is not there', async () => {
    const pair = new Pair();
    pair.destination.answers['DOMAIN_MIGRATE_FINISH3_PARAMS'] = () => {
      pair.destination.vm = null;
      throw new FakeError('resume operation failed');
    };
    const outcome = await pair.run();
    assert.deepEqual([outcome.phase, outcome.step, outcome.runsOn], ['failed', 'finish', 'source']);
    assert.deepEqual(pair.source.vm, [1, 6]);
  });

  it('does not start the VM at the source where the answer to Finish was lost and the VM runs at the destination', async () => {
    const pair = new Pair();
    pair.destination.answers['DOMAIN_MIGRATE_FINISH3_PARAMS'] = (_args, { cut }) => {
      pair.destination.vm = [1, 2];
      cut();
    };
    assert.deepEqual(await pair.run(), { phase: 'done', step: null, runsOn: 'destination', error: null });
    assert.equal(pair.source.vm, null);
  });

  it('has it go on at the source where Finish was lost and the VM is not at the destination', async () => {
    const pair = new Pair();
    pair.destination.answers['DOMAIN_MIGRATE_FINISH3_PARAMS'] = (_args, { cut }) => {
      pair.destination.vm = null;
      cut();
    };
    const outcome = await pair.run();
    assert.deepEqual([outcome.phase, outcome.runsOn], ['failed', 'source']);
    assert.deepEqual(pair.source.vm, [1, 6]);
  });

  it('waits as long as libvirt of the destination is still at it', async () => {
    const pair = new Pair();
    let looks = 0;
    pair.destination.answers['DOMAIN_MIGRATE_FINISH3_PARAMS'] = (_args, { cut }) => cut();
    pair.destination.answers['DOMAIN_GET_STATE'] = () =>
      ++looks < 5 ? { state: 3, reason: 2 } : { state: 1, reason: 2 };
    assert.equal((await pair.run()).runsOn, 'destination');
    assert.equal(looks, 5);
  });

  it('asks an operator, the VM left paused at the source, where nobody knows within the time of doubt', async () => {
    const pair = new Pair();
    pair.destination.answers['DOMAIN_MIGRATE_FINISH3_PARAMS'] = (_args, { cut }) => {
      pair.destination.isDown = true;
      cut();
    };
    const outcome = await pair.run();
    assert.deepEqual([outcome.phase, outcome.step, outcome.runsOn], ['operator-needed', 'finish', 'unknown']);
    assert.match(outcome.error?.hint ?? '', /virsh -c qemu:\/\/\/system domstate --reason vm/);
    assert.deepEqual(pair.source.vm, PAUSED_MIGRATING);
    assert.ok(!pair.source.calls.some((call) => call.startsWith('CONFIRM')));
  });

  it("believes the destination's agent where its libvirt cannot be reached", async () => {
    const pair = new Pair();
    pair.peer = {
      begin: async () => {},
      vmState: async () => ({ state: 'running', reason: 'migrated' }),
    };
    pair.destination.answers['DOMAIN_MIGRATE_FINISH3_PARAMS'] = (_args, { cut }) => {
      pair.destination.isDown = true;
      cut();
    };
    assert.equal((await pair.run({ peerAgent: true })).runsOn, 'destination');
  });

  it('says that the destination was lost where it ended the transfer for that, and not that somebody cancelled it', async () => {
    const pair = new Pair();
    const aborted = Promise.withResolvers<void>();
    pair.source.hasJob = true;
    pair.source.answers['DOMAIN_ABORT_JOB'] = () => aborted.resolve();
    pair.source.answers['DOMAIN_MIGRATE_PERFORM3_PARAMS'] = async () => {
      pair.destination.cutAll();
      await aborted.promise;
      pair.source.hasJob = false;
      throw new FakeError("operation aborted: job 'migration out' canceled by client", 78);
    };
    const { phase, step, runsOn, error } = await pair.run();
    assert.deepEqual([phase, step, runsOn], ['failed', 'perform', 'source']);
    assert.match(error?.message ?? '', /canceled by client.*libvirt of host-b was lost/);
    assert.match(error?.hint ?? '', /systemctl status libvirtd/);
  });

  it('sends no Finish over a connection that was lost before, and has the VM go on at the source', async () => {
    const pair = new Pair();
    pair.source.answers['DOMAIN_MIGRATE_PERFORM3_PARAMS'] = async () => {
      pair.destination.cutAll();
      pair.destination.vm = null;
      await new Promise((resolve) => setImmediate(resolve));
      pair.source.vm = PAUSED_MIGRATING;
      pair.source.hasJob = true;
      return { cookieOut: new Uint8Array() };
    };
    const outcome = await pair.run();
    assert.deepEqual([outcome.phase, outcome.runsOn], ['failed', 'source']);
    assert.ok(pair.journal.every(({ finishSent }) => !finishSent));
    assert.deepEqual(pair.source.vm, [1, 6]);
  });

  it('keeps a VM that was paused before paused, wherever it ends', async () => {
    const pair = new Pair();
    pair.source.vm = [3, 1];
    let flags = 0;
    pair.destination.answers['DOMAIN_MIGRATE_FINISH3_PARAMS'] = (args: { flags: number }) => {
      flags = args.flags;
      throw new FakeError('no');
    };
    pair.destination.answers['DOMAIN_GET_STATE'] = () => ({ state: 5, reason: 6 });
    pair.source.answers['DOMAIN_MIGRATE_CONFIRM3_PARAMS'] = () => {
      pair.source.vm = PAUSED_MIGRATING;
      return {};
    };
    await pair.run();
    assert.equal(flags & 0x20, 0x20);
    assert.ok(!pair.source.calls.includes('RESUME'));
  });

  it('asks an operator where post-copy broke', async () => {
    const pair = new Pair();
    pair.destination.answers['DOMAIN_MIGRATE_FINISH3_PARAMS'] = () => {
      pair.destination.vm = [3, 13];
      throw new FakeError('post-copy failed');
    };
    const outcome = await pair.run();
    assert.deepEqual([outcome.phase, outcome.runsOn], ['operator-needed', 'unknown']);
    assert.match(outcome.error?.message ?? '', /can run on neither alone/);
  });

  it('ends what is left at the source by itself where Confirm was lost and the VM runs at the destination', async () => {
    const pair = new Pair();
    let lost = false;
    pair.source.answers['DOMAIN_MIGRATE_CONFIRM3_PARAMS'] = (_args, { cut }) => {
      if (lost) throw new FakeError('domain is not processing outgoing migration', 55);
      lost = true;
      cut();
    };
    assert.equal((await pair.run()).phase, 'done');
    assert.equal(pair.source.vm, null);
    assert.ok(pair.source.calls.includes('DESTROY'));
  });

  it('pauses a VM at once that runs on both, and asks an operator', async () => {
    const pair = new Pair();
    pair.source.answers['DOMAIN_MIGRATE_CONFIRM3_PARAMS'] = () => {
      pair.source.vm = [1, 6];
      throw new FakeError('domain is not processing outgoing migration', 55);
    };
    const outcome = await pair.run();
    assert.deepEqual([outcome.phase, outcome.runsOn], ['operator-needed', 'destination']);
    assert.deepEqual(pair.source.vm, [3, 1]);
  });

  it('is cancelled before it began', async () => {
    const pair = new Pair();
    pair.cancelled = true;
    assert.deepEqual(await pair.run(), {
      phase: 'cancelled',
      step: 'connect',
      runsOn: 'source',
      error: null,
    });
    assert.deepEqual(pair.source.calls, []);
  });

  it('says so where there is no such VM', async () => {
    const pair = new Pair();
    pair.source.vm = null;
    const outcome = await pair.run();
    assert.deepEqual([outcome.phase, outcome.step, outcome.runsOn], ['failed', 'connect', 'neither']);
  });
});

describe('recover', () => {
  const journal = (change: Partial<Journal>): Journal => ({
    step: 'perform',
    uuid: VM_UUID,
    finishSent: false,
    wasPaused: false,
    isPostCopy: false,
    ...change,
  });

  it('lets a VM go on at the source whose Finish was never sent', async () => {
    const pair = new Pair();
    pair.source.vm = PAUSED_MIGRATING;
    const outcome = await pair.recover(journal({}));
    assert.deepEqual([outcome.phase, outcome.step, outcome.runsOn], ['failed', 'perform', 'source']);
    assert.deepEqual(pair.source.vm, [1, 5]);
  });

  it('ends the VM at the source that runs at the destination', async () => {
    const pair = new Pair();
    pair.source.vm = PAUSED_MIGRATING;
    pair.destination.vm = [1, 2];
    const outcome = await pair.recover(journal({ step: 'finish', finishSent: true }));
    assert.deepEqual([outcome.phase, outcome.runsOn], ['done', 'destination']);
    assert.equal(pair.source.vm, null);
  });

  it('asks an operator where Finish was sent and nobody answers at the destination', async () => {
    const pair = new Pair();
    pair.source.vm = PAUSED_MIGRATING;
    pair.destination.isDown = true;
    const outcome = await pair.recover(journal({ step: 'finish', finishSent: true }));
    assert.equal(outcome.phase, 'operator-needed');
    assert.deepEqual(pair.source.vm, PAUSED_MIGRATING);
  });

  it('has nothing to do where nothing had begun', async () => {
    const outcome = await new Pair().recover(journal({ step: 'connect', uuid: null }));
    assert.deepEqual([outcome.phase, outcome.runsOn], ['failed', 'source']);
  });
});
