import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { systemClock } from '@virt-trust/base/clock.ts';
import { silentLog } from '@virt-trust/base/log.ts';
import type { DesiredState } from '@virt-trust/contract/model/desired-state.ts';
import type { ObservedState } from '@virt-trust/contract/model/observed-state.ts';
import { barrierOf } from '../sets/barrier.ts';
import { agentPaths } from '../state/paths.ts';
import { JournaledEngine } from './engine.ts';
import { desiredState, FileEffects, issue, readAuthority, type TestAuthority, tlsOff } from './fixtures.ts';

/** What a child process of a kill test does to the host below a root. */
export type Scenario =
  | { readonly kind: 'apply'; readonly number: number; readonly failing: readonly string[] }
  | { readonly kind: 'off'; readonly number: number }
  | { readonly kind: 'remove' };

/** Rung at each event of the agent, so that whoever plays the manager looks again. */
export class Bell {
  #rung = Promise.withResolvers<void>();

  ring(): void {
    this.#rung.resolve();
    this.#rung = Promise.withResolvers();
  }

  /** The next ring from now on. */
  get next(): Promise<void> {
    return this.#rung.promise;
  }
}

/** Plays the manager: hands out certificates and says what it saw, until the desired state holds or failed. */
export async function manage(
  engine: JournaledEngine,
  bell: Bell,
  authority: TestAuthority,
  desired: DesiredState,
  word: 'proven' | 'refused' | 'silent' = 'proven',
): Promise<ObservedState> {
  await engine.putDesiredState(desired);
  for (;;) {
    const rung = bell.next;
    const observed = await engine.observedState();
    if (!observed.busy) return observed;
    const acted = await answer(engine, authority, observed, word);
    if (!acted) await rung;
  }
}

async function answer(
  engine: JournaledEngine,
  authority: TestAuthority,
  observed: ObservedState,
  word: 'proven' | 'refused' | 'silent',
): Promise<boolean> {
  const requests = await engine.certificateRequests();
  if (requests.length > 0) {
    const certificates = requests.map(({ service, generation, csr }) => ({
      service,
      generation,
      certificate: issue(authority, { csr }),
    }));
    await engine.putCertificates(certificates);
    return true;
  }
  const proving = observed.credentials.find(({ phase }) => phase === 'proving')?.candidate;
  if (proving == null || word === 'silent') return false;
  const { generation, pin } = proving;
  const proof = { kind: 'handshake', target: 'x', at: 0, by: 'manager', servedPin: pin, detail: '' } as const;
  const verdict =
    word === 'proven'
      ? ({ kind: 'proven', proof } as const)
      : ({ kind: 'refused', reason: 'no route' } as const);
  await engine.postProofs([{ service: 'libvirt', generation, verdict }]);
  return false;
}

/** Runs a scenario below a root in this process. */
async function play(root: string, scenario: Scenario): Promise<void> {
  const paths = agentPaths(root);
  const effects = new FileEffects(paths, scenario.kind === 'apply' ? scenario.failing : []);
  const bell = new Bell();
  const engine = new JournaledEngine({
    paths,
    effects,
    clock: systemClock,
    log: silentLog,
    emit: async () => bell.ring(),
    barrier: barrierOf(process.env['VIRT_TRUST_BARRIER']),
    proofBoundMs: 60_000,
    mode: 'manage',
    checkIntervalMs: null,
  });
  await engine.start();
  if (scenario.kind === 'remove') await engine.remove();
  else {
    const read = (name: string) => readFileSync(join(root, name), 'utf8');
    const authority = readAuthority(read('ca.pem'), read('ca.key'));
    const wanted = scenario.kind === 'off' ? tlsOff : desiredState;
    await manage(engine, bell, authority, wanted(authority, scenario.number));
  }
  await engine.stop();
}

if (process.argv[2] === 'play') await play(process.argv[3] ?? '', JSON.parse(process.argv[4] ?? ''));
