import Type, { type Static } from 'typebox';
import { Address, DnsName, Line, Name, Path, Pem, Port, Text, Time, Uuid, VmName } from './primitives.ts';

const strict = { additionalProperties: false };

export const ConsoleType = Type.Union([Type.Literal('vnc'), Type.Literal('spice')]);
export type ConsoleType = Static<typeof ConsoleType>;

/** How a display server knows its clients. */
export const ConsoleAuthentication = Type.Union([
  Type.Literal('none'),
  Type.Literal('password'),
  Type.Literal('certificate'),
  Type.Literal('certificate-and-password'),
]);
export type ConsoleAuthentication = Static<typeof ConsoleAuthentication>;

/** A display server of a running VM, as its QEMU was started and is now. */
export const VmDisplay = Type.Object(
  {
    type: ConsoleType,
    listen: Line,
    /** Without TLS; null where there is none, as with VNC that speaks TLS. */
    port: Type.Union([Port, Type.Null()]),
    tlsPort: Type.Union([Port, Type.Null()]),
    /** Where it has its certificate from; null without TLS. */
    tlsDirectory: Type.Union([Path, Type.Null()]),
    authentication: ConsoleAuthentication,
  },
  strict,
);
export type VmDisplay = Static<typeof VmDisplay>;

export const VmDisplays = Type.Object(
  { uuid: Uuid, vm: VmName, displays: Type.Array(VmDisplay, { maxItems: 16 }) },
  strict,
);
export type VmDisplays = Static<typeof VmDisplays>;

/** A password for one visit. VNC knows no more than 8 characters (RFC 6143 §7.2.2). */
export const ConsolePassword = Type.Object(
  { password: Type.String({ pattern: '^[A-Za-z0-9_-]{8,60}$' }), expiresAt: Time },
  strict,
);
export type ConsolePassword = Static<typeof ConsolePassword>;

/** Whom an operator wants to look at. */
export const OpenConsole = Type.Object(
  {
    vm: VmName,
    /** Where several hosts have a VM of that name. */
    host: Type.Optional(Name),
    type: Type.Optional(ConsoleType),
  },
  strict,
);
export type OpenConsole = Static<typeof OpenConsole>;

/** All that a client needs to reach a VM's display, verifying the name under which it is reached. */
export const Console = Type.Object(
  {
    vm: VmName,
    host: Name,
    type: ConsoleType,
    /** The name or address to connect to, and to verify. */
    address: Type.Union([DnsName, Address]),
    /** The one that speaks TLS; of another nobody is told. */
    tlsPort: Port,
    /** What the server's certificate chains to. */
    ca: Pem,
    authentication: ConsoleAuthentication,
    password: Type.Union([ConsolePassword, Type.Null()]),
    /** Of the server's certificate, only where that is not of ours yet and so lacks the name. */
    hostSubject: Type.Union([Line, Type.Null()]),
    /** False where it listens on the host's loopback alone: `hint` says how to get there. */
    reachable: Type.Boolean(),
    hint: Text,
    /** A connection file of remote-viewer. */
    vv: Type.String({ maxLength: 65_536 }),
  },
  strict,
);
export type Console = Static<typeof Console>;
