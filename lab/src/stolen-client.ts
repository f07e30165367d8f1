import type { Host } from './host.ts';

/** A client certificate with its key, in PEM. */
export interface StolenClient {
  readonly certificatePem: string;
  readonly privateKeyPem: string;
}

/** Where it stays on the host: a pkipath of libvirt's client, without a CRL. */
export const STOLEN = '/root/stolen';

// All that a pkipath needs: the files come one after the other.
const STEAL = `rm -rf "$1"; until cp -r /run/virt-trust/migrations/*/ "$1" 2>/dev/null && cd "$1" &&
  test -s cacert.pem && test -s clientcert.pem && test -s clientkey.pem; do
  cd /; rm -rf "$1"; sleep 0.02; done; rm -f "$1/cacrl.pem"`;

/** Keeps the client certificate of a migration from the host while it runs, with its key, as who owns the host can. */
export async function stealClient(host: Host, migrate: () => Promise<unknown>): Promise<StolenClient> {
  const thief = host.run(['timeout', '120', 'sh', '-c', STEAL, 'sh', STOLEN]);
  await migrate();
  await thief;
  return {
    certificatePem: await host.readFile(`${STOLEN}/clientcert.pem`),
    privateKeyPem: await host.readFile(`${STOLEN}/clientkey.pem`),
  };
}
