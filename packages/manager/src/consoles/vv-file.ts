import type { ConsoleType } from '@virt-trust/contract/model/console.ts';

export interface ConnectionFile {
  readonly type: ConsoleType;
  readonly host: string;
  readonly tlsPort: number;
  readonly password: string | null;
  readonly ca: string;
  readonly title: string;
  readonly hostSubject: string | null;
}

/** All of SPICE's channels, none of which may go without TLS. */
const CHANNELS = [
  'main',
  'display',
  'inputs',
  'cursor',
  'playback',
  'record',
  'smartcard',
  'usbredir',
  'webdav',
];

/** A connection file of remote-viewer(1): one group in the form of GLib's GKeyFile. */
export function encodeConnectionFile(file: ConnectionFile): string {
  const lines: [string, string][] = [
    ['type', file.type],
    ['host', file.host],
    // VNC negotiates TLS on the one port that it has.
    file.type === 'vnc' ? ['port', String(file.tlsPort)] : ['tls-port', String(file.tlsPort)],
    ...(file.password === null ? [] : [['password', file.password] satisfies [string, string]]),
    ...(file.type === 'spice'
      ? ([
          ['ca', file.ca],
          ['secure-channels', CHANNELS.join(';')],
        ] satisfies [string, string][])
      : []),
    ...(file.hostSubject === null ? [] : [['host-subject', file.hostSubject] satisfies [string, string]]),
    ['title', file.title],
    // The password is for one visit; remote-viewer removes the file once it has read it.
    ['delete-this-file', '1'],
  ];
  return `[virt-viewer]\n${lines.map(([key, value]) => `${key}=${escaped(value)}\n`).join('')}`;
}

/** SECURITY: no value makes a line of its own, whoever chose it. */
function escaped(value: string): string {
  return value
    .replaceAll('\\', '\\\\')
    .replaceAll('\n', '\\n')
    .replaceAll('\r', '\\r')
    .replaceAll('\t', '\\t')
    .replace(/^ /, '\\s');
}
