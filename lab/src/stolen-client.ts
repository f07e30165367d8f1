import type { Host } from './host.ts';
import { until } from './until.ts';

/** A client certificate with its key, in PEM. */
export interface StolenClient {
  readonly certificatePem: string;
  readonly privateKeyPem: string;
}

/** Where it stays on the host: a pkipath of libvirt's client, without a CRL. */
export const STOLEN = '/root/stolen';

/** There once the thief looks. */
const READY = '/run/thief-looks';

// All that a pkipath needs: the files come one after the other.
const STEAL = `rm -rf "$1"; : >${READY}; until cp -r /run/virt-trust/migrations/*/ "$1" 2>/dev/null && cd "$1" &&
  test -s cacert.pem && test -s clientcert.pem && test -s clientkey.pem; do
  cd /; rm -rf "$1"; sleep 0.02; done; rm -f "$1/cacrl.pem"`;

/** Keeps the client certificate of a migration from the host while it runs, with its key, as who owns the host can. */
export async function stealClient(host: Host, migrate: () => Promise<unknown>): Promise<StolenClient> {
  await host.run(['rm', '-f', READY]);
  const thief = host.run(['timeout', '600', 'sh', '-c', STEAL, 'sh', STOLEN]);
  // Who steals nothing is told of once the migration is over.
  thief.catch(() => {});
  await until('have the thief look', 60_000, async () =>
    (await host.exec(['test', '-e', READY])).code === 0 ? true : undefined,
  );
  await migrate();
  await thief;
  return {
    certificatePem: await host.readFile(`${STOLEN}/clientcert.pem`),
    privateKeyPem: await host.readFile(`${STOLEN}/clientkey.pem`),
  };
}
