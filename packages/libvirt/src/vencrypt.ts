import { TrustError } from '@virt-trust/base/error.ts';

const VERSION = 'RFB 003.008\n';
const VENCRYPT = 19;
const REASON_LIMIT = 4096;

/** VeNCrypt's subtypes by number (QEMU's ui/vnc.h, rfbproto.rst "VeNCrypt"). */
const SUBTYPES: Readonly<Record<number, string>> = {
  256: 'Plain',
  257: 'TLSNone',
  258: 'TLSVnc',
  259: 'TLSPlain',
  260: 'X509None',
  261: 'X509Vnc',
  262: 'X509Plain',
  263: 'TLSSASL',
  264: 'X509SASL',
};
/** The subtypes in which the server shows a certificate, the one that asks least first. */
const WITH_CERTIFICATE = [260, 261, 262, 264];

/** What the exchange has come to: wait for more bytes, or start TLS on the connection. */
type VencryptState = { readonly kind: 'handshaking' } | { readonly kind: 'tls'; readonly subtype: string };

/** What to send to the server now, and where the exchange stands. */
export interface VencryptStep {
  readonly send: Uint8Array;
  readonly state: VencryptState;
}

type Phase =
  | 'version'
  | 'types'
  | 'reason'
  | 'vencrypt-version'
  | 'acknowledgement'
  | 'subtypes'
  | 'accepted'
  | 'tls';

/**
 * The client's side of RFB 3.8 (RFC 6143 §7.1) and VeNCrypt 0.2 up to where TLS starts, without I/O. It ends in
 * an X509 subtype and never gets to a VNC password. Throws `vnc.*` for what the server says or refuses.
 */
export class VencryptClient {
  #pending: Buffer = Buffer.alloc(0);
  #phase: Phase = 'version';
  #subtype = 0;

  /** Takes bytes of the server. */
  receive(bytes: Uint8Array): VencryptStep {
    if (this.#phase === 'tls') throw failure('vnc.malformed', 'the server spoke before TLS began');
    this.#pending = Buffer.concat([this.#pending, bytes]);
    const send: Uint8Array[] = [];
    for (let answer = this.#advance(); answer !== undefined; answer = this.#advance()) send.push(answer);
    const state: VencryptState =
      (this.#phase as Phase) === 'tls'
        ? { kind: 'tls', subtype: SUBTYPES[this.#subtype] ?? String(this.#subtype) }
        : { kind: 'handshaking' };
    // SECURITY: bytes sent in the clear ahead of TLS must not count as said inside it.
    if (state.kind === 'tls' && this.#pending.length > 0) {
      throw failure('vnc.malformed', 'the server spoke before TLS began');
    }
    return { send: Buffer.concat(send), state };
  }

  /** The answer to the message that is whole; undefined where more bytes are needed. */
  #advance(): Uint8Array | undefined {
    switch (this.#phase) {
      case 'version':
        return this.#version();
      case 'types':
        return this.#types();
      case 'reason':
        return this.#reason();
      case 'vencrypt-version':
        return this.#vencryptVersion();
      case 'acknowledgement':
        return this.#acknowledgement();
      case 'subtypes':
        return this.#subtypes();
      case 'accepted':
        return this.#accepted();
      case 'tls':
        return undefined;
    }
  }

  /** RFC 6143 §7.1.1. */
  #version(): Uint8Array | undefined {
    const text = this.#take(12)?.toString('latin1');
    if (text === undefined) return undefined;
    const parts = /^RFB (\d{3})\.(\d{3})\n$/.exec(text);
    if (parts === null) throw failure('vnc.malformed', 'the server does not speak RFB');
    if (Number(parts[1]) * 1000 + Number(parts[2]) < 3008) {
      throw failure('vnc.no_tls', `the server speaks RFB ${parts[1]}.${parts[2]}, before 003.008`);
    }
    this.#phase = 'types';
    return Buffer.from(VERSION, 'latin1');
  }

  /** RFC 6143 §7.1.2. */
  #types(): Uint8Array | undefined {
    const count = this.#pending[0];
    if (count === undefined) return undefined;
    if (count === 0) {
      this.#take(1);
      this.#phase = 'reason';
      return Buffer.alloc(0);
    }
    const types = this.#take(1 + count)?.subarray(1);
    if (types === undefined) return undefined;
    if (!types.includes(VENCRYPT)) {
      throw failure(
        'vnc.no_tls',
        `the server offers security types ${[...types].join(', ')}, not VeNCrypt (19)`,
      );
    }
    this.#phase = 'vencrypt-version';
    return Buffer.of(VENCRYPT);
  }

  /** RFC 6143 §7.1.2: the server refuses the connection and says why. */
  #reason(): undefined {
    if (this.#pending.length < 4) return undefined;
    const length = Math.min(this.#pending.readUInt32BE(0), REASON_LIMIT);
    const reason = this.#take(4 + length)?.subarray(4);
    if (reason === undefined) return undefined;
    throw failure('vnc.refused', `the server refuses: ${JSON.stringify(reason.toString('utf8'))}`);
  }

  #vencryptVersion(): Uint8Array | undefined {
    const version = this.#take(2);
    if (version === undefined) return undefined;
    if (version.readUInt16BE(0) < 2) {
      throw failure('vnc.no_tls', `the server speaks VeNCrypt ${version[0]}.${version[1]}, before 0.2`);
    }
    this.#phase = 'acknowledgement';
    return Buffer.of(0, 2);
  }

  #acknowledgement(): Uint8Array | undefined {
    const status = this.#take(1)?.[0];
    if (status === undefined) return undefined;
    if (status !== 0) throw failure('vnc.refused', 'the server refuses VeNCrypt 0.2');
    this.#phase = 'subtypes';
    return Buffer.alloc(0);
  }

  #subtypes(): Uint8Array | undefined {
    const count = this.#pending[0];
    if (count === undefined) return undefined;
    const list = this.#take(1 + 4 * count)?.subarray(1);
    if (list === undefined) return undefined;
    const offered = Array.from({ length: count }, (_, index) => list.readUInt32BE(4 * index));
    const chosen = WITH_CERTIFICATE.find((subtype) => offered.includes(subtype));
    if (chosen === undefined) {
      const names = offered.map((subtype) => SUBTYPES[subtype] ?? String(subtype)).join(', ');
      throw failure(
        'vnc.no_certificate',
        `the server offers ${names || 'no subtype'}, none with a certificate`,
      );
    }
    this.#subtype = chosen;
    this.#phase = 'accepted';
    const answer = Buffer.alloc(4);
    answer.writeUInt32BE(chosen);
    return answer;
  }

  #accepted(): Uint8Array | undefined {
    const status = this.#take(1)?.[0];
    if (status === undefined) return undefined;
    if (status !== 1) throw failure('vnc.refused', `the server refuses ${SUBTYPES[this.#subtype]}`);
    this.#phase = 'tls';
    return Buffer.alloc(0);
  }

  #take(length: number): Buffer | undefined {
    if (this.#pending.length < length) return undefined;
    const part = this.#pending.subarray(0, length);
    this.#pending = this.#pending.subarray(length);
    return part;
  }
}

function failure(code: string, reason: string): TrustError {
  return new TrustError(code, 'failed', `cannot start TLS with the VNC server: ${reason}`);
}
