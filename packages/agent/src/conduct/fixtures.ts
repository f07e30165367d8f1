import { testMigrationOptions } from '@virt-trust/contract/model/fixtures.ts';
import type { MigrationOrder } from '@virt-trust/contract/model/migration.ts';

/** An order in mode `plain` between two hosts. */
export function orderOf(change: Partial<MigrationOrder> = {}): MigrationOrder {
  return {
    id: '00000000-0000-4000-8000-000000000001',
    vm: 'vm',
    mode: 'plain',
    from: 'host-a',
    to: 'host-b',
    source: { kind: 'local' },
    destination: { kind: 'tcp', address: '192.0.2.2', port: 16509 },
    peerAgent: false,
    stream: { address: '192.0.2.2', listenAddress: null, tlsDestination: null },
    tls: null,
    options: testMigrationOptions(),
    doubtSeconds: 30,
    ...change,
  };
}

/** Time that passes by waiting alone. */
export class FakeTime {
  #now = 0;
  readonly now = () => this.#now;
  readonly sleep = async (milliseconds: number) => {
    this.#now += milliseconds;
    // Lets packets that are under way arrive.
    await new Promise((resolve) => setImmediate(resolve));
  };
}
