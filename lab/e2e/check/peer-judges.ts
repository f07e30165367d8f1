import { execFile } from 'node:child_process';
import { mkdir, writeFile } from 'node:fs/promises';
import { type AddressInfo, createServer, type Socket, connect as tcpConnect } from 'node:net';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { Readable } from 'node:stream';
import { createSecureContext, type SecureContext, TLSSocket, connect as tlsConnect } from 'node:tls';
import { promisify } from 'node:util';
import { FFDHE2048_PEM } from '@virt-trust/libvirt/dh-params.ts';
import { readGnutlsCertificatePem } from '@virt-trust/libvirt/gnutls/certificate.ts';
import type { Host } from '../../src/host.ts';
import { keyPem, make, names } from './maker.ts';
import { type PeerSet, peerRoot } from './peer-sets.ts';

/** Anything a peer may show, however weak. */
const ANYTHING = 'DEFAULT@SECLEVEL=0';
const PLACE = '/var/tmp/check-peers';
const PEER_HOST = 'host.example';
const BOTH = ['libvirt', 'qemu'] as const;
const NBD_OPTION = 'IHAVEOPT';
const NBD_LIST = 3;
const NBD_STARTTLS = 5;
/** So long nobody takes who says anything: what ends by it is no verdict. */
const PATIENCE_MS = 60_000;
const ALL_MS = 900_000;

const own = make({ issuer: peerRoot, extensions: [names([2, 'own.example'])] });

/** The directory of one side: CA, CRL, and for a server a good identity of its own. */
export async function writePeerDirectories(base: string, sets: readonly PeerSet[]): Promise<void> {
  for (const [index, set] of sets.entries()) {
    const directory = join(base, String(index));
    for (const program of ['libvirt', 'qemu'] as const) {
      const at = (libvirt: string, qemu: string) =>
        join(directory, program, program === 'libvirt' ? libvirt : qemu);
      await mkdir(join(directory, program), { recursive: true });
      await writeFile(at('cacert.pem', 'ca-cert.pem'), set.ca);
      if (set.crl !== undefined) await writeFile(at('cacrl.pem', 'ca-crl.pem'), set.crl);
      if (set.role === 'server') {
        await writeFile(at('servercert.pem', 'server-cert.pem'), own.pem);
        await writeFile(at('serverkey.pem', 'server-key.pem'), keyPem(own.key));
        if (program === 'qemu') await writeFile(at('', 'dh-params.pem'), FFDHE2048_PEM);
      }
    }
    await writeFile(join(directory, 'peer.pem'), set.peer);
  }
}

/** RFC 5246 §7.4.7.1: the client encrypts to the server's RSA key, which need not sign. */
const ENCRYPTED_TO = { ciphers: 'AES256-GCM-SHA384:@SECLEVEL=0', maxVersion: 'TLSv1.2' } as const;

/** Whether the certificate permits that alone; a GnuTLS that serves it does nothing else, and OpenSSL signs all the same. */
function isOnlyEncryptedTo({ peer, key }: PeerSet): boolean {
  if (key.asymmetricKeyType !== 'rsa') return false;
  try {
    const usages = readGnutlsCertificatePem(peer).extensions.keyUsage?.usages;
    return usages?.includes('keyEncipherment') === true && !usages.includes('digitalSignature');
  } catch {
    return false;
  }
}

/** A server of one set, for libvirt's client or for NBD's, which tells whether a client spoke inside of TLS. */
class PeerServer {
  accepted = false;
  /** Why OpenSSL cannot show this certificate. */
  failure: unknown;
  readonly #set: PeerSet;
  readonly #program: 'libvirt' | 'qemu';
  readonly #server = createServer((socket) => void this.#serve(socket));

  constructor(set: PeerSet, program: 'libvirt' | 'qemu') {
    this.#set = set;
    this.#program = program;
  }

  async listen(): Promise<number> {
    await new Promise<void>((resolve) => this.#server.listen(0, '0.0.0.0', resolve));
    return (this.#server.address() as AddressInfo).port;
  }

  close(): void {
    this.#server.close();
  }

  async #serve(socket: Socket): Promise<void> {
    socket.on('error', () => {});
    socket.setTimeout(PATIENCE_MS, () => socket.destroy());
    if (this.#program === 'qemu') {
      socket.write(Buffer.concat([Buffer.from(`NBDMAGIC${NBD_OPTION}`), Buffer.from([0, 3])]));
      try {
        await readExactly(socket, 4 + 16);
      } catch {
        return;
      }
      const reply = Buffer.alloc(20);
      reply.writeBigUInt64BE(0x3e889045565a9n, 0);
      reply.writeUInt32BE(NBD_STARTTLS, 8);
      reply.writeUInt32BE(1, 12);
      socket.write(reply);
    }
    const { peer: cert, key } = this.#set;
    let secureContext: SecureContext;
    try {
      const protocol = isOnlyEncryptedTo(this.#set) ? ENCRYPTED_TO : { ciphers: ANYTHING };
      secureContext = createSecureContext({ cert, key: keyPem(key), ...protocol });
    } catch (error) {
      this.failure = error;
      socket.destroy();
      return;
    }
    const tls = new TLSSocket(socket, { isServer: true, secureContext });
    tls.on('error', () => {});
    // TLS_CONFIRMATION of libvirt's RPC: the client goes on once it has verified us.
    if (this.#program === 'libvirt') tls.once('secure', () => tls.write(Buffer.of(1)));
    tls.once('data', () => {
      this.accepted = true;
      tls.destroy();
    });
  }
}

function readExactly(socket: Socket, length: number): Promise<Buffer> {
  const { promise, resolve, reject } = Promise.withResolvers<Buffer>();
  let have = Buffer.alloc(0);
  const onData = (chunk: Buffer) => {
    have = Buffer.concat([have, chunk]);
    if (have.length < length) return;
    socket.off('data', onData);
    socket.pause();
    if (have.length > length) socket.unshift(have.subarray(length));
    resolve(have.subarray(0, length));
  };
  socket.on('data', onData).resume();
  for (const event of ['end', 'close', 'error']) socket.once(event, () => reject(new Error('cut off')));
  return promise;
}

/** What the host's libvirt and QEMU make of each peer, by `NUMBER PROGRAM`. */
export async function judgePeers(
  host: Host,
  machineAddress: string,
  base: string,
  sets: readonly PeerSet[],
): Promise<Map<string, boolean>> {
  const { stdout } = await promisify(execFile)('tar', ['-c', '-C', base, '.'], {
    encoding: 'buffer',
    maxBuffer: 256 << 20,
  });
  const unpack = `rm -rf ${PLACE} && mkdir ${PLACE} && tar -x -C ${PLACE} && chmod -R a+rX ${PLACE}`;
  await host.run(['sh', '-c', unpack], { input: stdout });
  const servers = await judgeServers(host, machineAddress, sets);
  return new Map([...servers, ...(await askLibvirtd(host, sets)), ...(await askQemuNbd(host, sets))]);
}

const AS_QEMU = 'setpriv --reuid libvirt-qemu --regid kvm --init-groups --';

/** Has the host's virsh and qemu-img connect to a server of each set. */
async function judgeServers(
  host: Host,
  address: string,
  sets: readonly PeerSet[],
): Promise<Map<string, boolean>> {
  const servers = new Map<string, PeerServer>();
  const commands: string[] = [];
  for (const [index, set] of sets.entries()) {
    if (set.role !== 'client') continue;
    const name = set.host ?? PEER_HOST;
    for (const program of set.programs ?? BOTH) {
      const server = new PeerServer(set, program);
      const port = await server.listen();
      servers.set(`${index} ${program}`, server);
      const directory = `${PLACE}/${index}/${program}`;
      const object = `tls-creds-x509,id=t,dir=${directory},endpoint=client,sanity-check=no`;
      const image = JSON.stringify({
        driver: 'nbd',
        'tls-creds': 't',
        'tls-hostname': name,
        server: { type: 'inet', host: address, port: String(port) },
      });
      const command =
        program === 'libvirt'
          ? `virsh -c 'qemu+tls://${name}:${port}/system?no_sanity=1&pkipath=${directory}' version`
          : `${AS_QEMU} qemu-img info --object ${object} 'json:${image}'`;
      commands.push(
        `timeout ${PATIENCE_MS / 1000} ${command} >/dev/null 2>${PLACE}/${index}/said.${program} </dev/null`,
      );
    }
  }
  await host.run(['sh', '-c', `echo '${address} ${PEER_HOST}' >>/etc/hosts`]);
  const script = commands
    .map((command, index) => `${command} &${index % 4 === 3 ? '\nwait' : ''}`)
    .join('\n');
  await host.run(['sh', '-s'], { input: `${script}\nwait\n`, timeout: ALL_MS });
  const said = await host.run([
    'sh',
    '-c',
    `cd ${PLACE} && grep -l 'Unable to read TLS confirmation' */said.libvirt || true`,
  ]);
  // Past its verdict a libvirt that does not wait for the byte, as tickets come before it, says this.
  const past = new Set(said.split('\n').map((path) => path.split('/')[0]));
  const verdicts = new Map<string, boolean>();
  for (const [key, server] of servers) {
    server.close();
    if (server.failure !== undefined) throw new Error(`cannot show ${key}`, { cause: server.failure });
    const [index = '', program] = key.split(' ');
    verdicts.set(key, server.accepted || (program === 'libvirt' && past.has(index)));
  }
  return verdicts;
}

/** Has libvirtd take the trust of each set, with a good identity of its own, and comes to it as the set's client. */
async function askLibvirtd(host: Host, sets: readonly PeerSet[]): Promise<Map<string, boolean>> {
  const loop = `while read -r number; do
    ln -sfn ${PLACE}/$number/libvirt /var/tmp/check-sets/current
    virt-admin -c libvirtd:///system server-update-tls libvirtd >/dev/null 2>&1; echo $?
  done`;
  const shell = await host.start(['sh', '-c', loop]);
  const answers = createInterface({ input: shell.stdout as Readable })[Symbol.asyncIterator]();
  const verdicts = new Map<string, boolean>();
  for (const [index, set] of sets.entries()) {
    if (set.role !== 'server') continue;
    shell.stdin?.write(`${index}\n`);
    // A daemon that does not take the set for its own asks no peer.
    if ((await answers.next()).value !== '0') continue;
    verdicts.set(`${index} libvirt`, await isAcceptedBy(host.address, 16514, set, false));
  }
  shell.stdin?.end();
  return verdicts;
}

/** Has a qemu-nbd of each set ask us for a certificate. */
async function askQemuNbd(host: Host, sets: readonly PeerSet[]): Promise<Map<string, boolean>> {
  const numbers = sets.flatMap((set, index) => (set.role === 'server' ? [index] : []));
  const portOf = (index: number) => 20_000 + index;
  const start = numbers.map((index) => {
    const directory = `${PLACE}/${index}/qemu`;
    const object = `tls-creds-x509,id=t,dir=${directory},endpoint=server,verify-peer=yes,sanity-check=no`;
    const image = 'driver=null-co,size=1M,read-zeroes=on';
    const options = `--persistent --shared 0 --port ${portOf(index)} --tls-creds t --image-opts ${image}`;
    return `${AS_QEMU} qemu-nbd --fork --pid-file /tmp/nbd.${index} --object ${object} ${options} >/dev/null 2>&1`;
  });
  await host.exec(['sh', '-s'], { input: start.join('\n'), timeout: ALL_MS });
  const verdicts = new Map<string, boolean>();
  for (const index of numbers) {
    const set = sets[index] as PeerSet;
    verdicts.set(`${index} qemu`, await isAcceptedBy(host.address, portOf(index), set, true));
  }
  await host.exec(['sh', '-c', 'kill $(cat /tmp/nbd.*) && rm -f /tmp/nbd.*']);
  return verdicts;
}

/** Whether a server that asks for a certificate goes on with us. */
async function isAcceptedBy(address: string, port: number, set: PeerSet, nbd: boolean): Promise<boolean> {
  const socket = tcpConnect(port, address);
  socket.on('error', () => {});
  socket.setTimeout(PATIENCE_MS, () => socket.destroy());
  try {
    if (nbd) {
      await readExactly(socket, 18);
      const option = Buffer.alloc(20);
      option.writeUInt32BE(3, 0);
      option.write(NBD_OPTION, 4);
      option.writeUInt32BE(NBD_STARTTLS, 12);
      socket.write(option);
      await readExactly(socket, 20);
    }
    const tls = tlsConnect({
      socket,
      rejectUnauthorized: false,
      cert: set.peer,
      key: keyPem(set.key),
      ciphers: ANYTHING,
    });
    tls.on('error', () => {});
    return await new Promise<boolean>((resolve) => {
      tls.once('secureConnect', () => {
        if (!nbd) return;
        const list = Buffer.alloc(16);
        list.write(NBD_OPTION, 0);
        list.writeUInt32BE(NBD_LIST, 8);
        tls.write(list);
      });
      tls.once('data', () => resolve(true));
      tls.once('close', () => resolve(false));
    });
  } catch {
    return false;
  } finally {
    socket.destroy();
  }
}
