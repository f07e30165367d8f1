import { DesiredSettings, DesiredState } from '@virt-trust/contract/model/desired-state.ts';
import { Failure, Proof } from '@virt-trust/contract/model/observed-state.ts';
import {
  Count,
  Line,
  Path,
  Pin,
  SerialHex,
  Sha256Hex,
  Text,
  Time,
} from '@virt-trust/contract/model/primitives.ts';
import { Service } from '@virt-trust/contract/model/service.ts';
import Type, { type Static } from 'typebox';

const strict = { additionalProperties: false };
const Identity = Type.Union([Type.Literal('ours'), Type.Literal('found')]);

/** One whole set of a service's files: what it is the result of, and what is in it. */
export const Generation = Type.Object(
  {
    number: Count,
    identity: Identity,
    /** Digest of the desired names, subject, key algorithm and revision: what needs a new key and certificate. */
    identityDigest: Sha256Hex,
    /** Digest of the whole desired credential. */
    targetDigest: Sha256Hex,
    serialNumber: SerialHex,
    pin: Pin,
    notAfter: Time,
  },
  strict,
);
export type Generation = Static<typeof Generation>;

export const ServiceState = Type.Object(
  {
    service: Service,
    /** The number that was given out last, so that none comes twice. */
    lastNumber: Count,
    /** What is served and was proven. */
    current: Type.Union([Generation, Type.Null()]),
    proofs: Type.Array(Proof, { maxItems: 64 }),
    failure: Type.Union([Failure, Type.Null()]),
  },
  strict,
);
export type ServiceState = Static<typeof ServiceState>;

/** What the agent keeps between applications. */
export const ApplyState = Type.Object(
  {
    /** The desired state that was applied last, whether that worked or not; zero before the first. */
    epoch: Count,
    number: Count,
    services: Type.Array(ServiceState, { maxItems: 8 }),
    /** Keys of the configuration files that hold our values. */
    ownKeys: Type.Object(
      { rpc: Type.Array(Line, { maxItems: 64 }), qemu: Type.Array(Line, { maxItems: 64 }) },
      strict,
    ),
    failure: Type.Union([Failure, Type.Null()]),
    /** Of the desired state that was settled last. */
    settings: Type.Optional(DesiredSettings),
    /** What could not or must not be taken off the host when its TLS was switched off. */
    left: Type.Optional(Type.Array(Text, { maxItems: 512 })),
    /** How often a path was repaired since the last application, and when last. */
    repairs: Type.Array(Type.Object({ path: Path, count: Count, at: Type.Optional(Time) }, strict), {
      maxItems: 256,
    }),
  },
  strict,
);
export type ApplyState = Static<typeof ApplyState>;

export const EMPTY_STATE: ApplyState = {
  epoch: 0,
  number: 0,
  services: [],
  ownKeys: { rpc: [], qemu: [] },
  failure: null,
  repairs: [],
};

/** A state with one service of it changed, which is made where it is new. */
export function withService(
  state: ApplyState,
  service: Service,
  change: (known: ServiceState) => ServiceState,
): ApplyState {
  const known = state.services.find((one) => one.service === service);
  const fresh: ServiceState = { service, lastNumber: 0, current: null, proofs: [], failure: null };
  const others = state.services.filter((one) => one.service !== service);
  return { ...state, services: [...others, change(known ?? fresh)] };
}

/** A socket of systemd's, as it was or shall be. */
export const SocketState = Type.Object({ enabled: Type.Boolean(), active: Type.Boolean() }, strict);
export type SocketState = Static<typeof SocketState>;

export const Sockets = Type.Object({ tls: SocketState, tcp: SocketState }, strict);
export type Sockets = Static<typeof Sockets>;

/** The manager's word on a generation of libvirt. */
export const Verdict = Type.Union([
  Type.Object({ kind: Type.Literal('proven'), generation: Count, proof: Proof }, strict),
  Type.Object({ kind: Type.Literal('refused'), generation: Count, reason: Text }, strict),
]);
export type Verdict = Static<typeof Verdict>;

/** A service's way from one generation to the next within an application. */
export const Transition = Type.Object(
  {
    service: Service,
    /** The generation before; null where the service was not virt-trust's. */
    from: Type.Union([Count, Type.Null()]),
    to: Count,
    identity: Identity,
    identityDigest: Sha256Hex,
    targetDigest: Sha256Hex,
    /** Whether a certificate is asked for; else key and certificate come from before or from what was found. */
    request: Type.Boolean(),
  },
  strict,
);
export type Transition = Static<typeof Transition>;

/** Since when a restart waits: kept over the agent's end, and for whatever else comes to wait meanwhile. */
export const WaitRecord = Type.Object({ since: Time }, strict);

/** An application under way: what a restart of the agent goes on with. */
export const Journal = Type.Object(
  {
    kind: Type.Union([
      Type.Literal('applying'),
      Type.Literal('going-back'),
      Type.Literal('removing'),
      /** Gives the host back what was found, and the agent stays. */
      Type.Literal('switching-off'),
    ]),
    desired: Type.Union([DesiredState, Type.Null()]),
    transitions: Type.Array(Transition, { maxItems: 8 }),
    steps: Type.Array(Line, { maxItems: 128 }),
    /** The step that is done now or next. */
    at: Count,
    /** Index of this list's first step, which goes on counting when the way back begins. */
    offset: Count,
    /** Sockets before, once they were written down. */
    sockets: Type.Union([Sockets, Type.Null()]),
    ownKeysBefore: Type.Union([ApplyState.properties.ownKeys, Type.Null()]),
    settingsChanged: Type.Boolean(),
    proofs: Type.Array(Type.Object({ service: Service, proof: Proof }, strict), { maxItems: 256 }),
    /** Until when the manager's proof is waited for. */
    proofDeadline: Type.Union([Time, Type.Null()]),
    failure: Type.Union([
      Type.Object({ service: Type.Union([Service, Type.Null()]), failure: Failure }, strict),
      Type.Null(),
    ]),
    restored: Type.Array(Line, { maxItems: 512 }),
    left: Type.Array(Text, { maxItems: 512 }),
  },
  strict,
);
export type Journal = Static<typeof Journal>;

/** A journal in which nothing was done yet. */
export function emptyJournal(kind: Journal['kind']): Journal {
  return {
    kind,
    desired: null,
    transitions: [],
    steps: [],
    at: 0,
    offset: 0,
    sockets: null,
    ownKeysBefore: null,
    settingsChanged: false,
    proofs: [],
    proofDeadline: null,
    failure: null,
    restored: [],
    left: [],
  };
}
