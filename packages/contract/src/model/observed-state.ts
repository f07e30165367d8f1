import Type, { type Static } from 'typebox';
import { HostCapabilities } from './capabilities.ts';
import { InstalledCrl } from './crl.ts';
import { DesiredSettings } from './desired-state.ts';
import { HostNetwork } from './inventory.ts';
import { Count, Line, Pem, Pin, SerialHex, Text, Time, VmName } from './primitives.ts';
import { Service } from './service.ts';

const strict = { additionalProperties: false };

/** One observed proof: a real handshake and what was served in it. */
export const Proof = Type.Object(
  {
    /** `handshake`: served by the daemon; `qemu-tls`: QEMU's own TLS code on the very files. */
    kind: Type.Union([Type.Literal('handshake'), Type.Literal('qemu-tls'), Type.Literal('vencrypt')]),
    /** Where: address and port, socket path, or VM. */
    target: Line,
    at: Time,
    by: Type.Union([Type.Literal('agent'), Type.Literal('manager')]),
    servedPin: Type.Union([Pin, Type.Null()]),
    detail: Line,
  },
  strict,
);
export type Proof = Static<typeof Proof>;

export const Failure = Type.Object(
  { code: Line, message: Text, hint: Type.Optional(Text), step: Line, at: Time },
  strict,
);
export type Failure = Static<typeof Failure>;

/** Where a service of a host stands. */
export const ObservedCredential = Type.Object(
  {
    service: Service,
    /** The generation that is served and was proven; null before the first. */
    generation: Type.Union([Count, Type.Null()]),
    /**
     * The generation that is being made: requested, applied or waiting for the manager's proof, with the pin of the
     * certificate that it serves once it has one; null where nothing is under way. Verdicts name this generation.
     */
    candidate: Type.Union([
      Type.Object({ generation: Count, pin: Type.Union([Pin, Type.Null()]) }, strict),
      Type.Null(),
    ]),
    identity: Type.Union([Type.Literal('ours'), Type.Literal('found'), Type.Literal('none')]),
    serialNumber: Type.Union([SerialHex, Type.Null()]),
    pin: Type.Union([Pin, Type.Null()]),
    notAfter: Type.Union([Time, Type.Null()]),
    phase: Type.Union([
      /** Nothing to do. */
      Type.Literal('settled'),
      /** A new generation waits for its certificate. */
      Type.Literal('requested'),
      /** The agent is working. */
      Type.Literal('applying'),
      /** Switched and seen by the agent; the manager's proof is awaited. */
      Type.Literal('proving'),
      /** Went back; `failure` says why. */
      Type.Literal('failed'),
    ]),
    proofs: Type.Array(Proof, { maxItems: 64 }),
    failure: Type.Union([Failure, Type.Null()]),
  },
  strict,
);
export type ObservedCredential = Static<typeof ObservedCredential>;

/** Something that only a person, or a restart of a VM, can finish; or that waits for running migrations. */
export const Pending = Type.Object(
  {
    what: Line,
    why: Text,
    action: Text,
    /** Where it only waits: when it goes on anyway. */
    until: Type.Optional(Time),
  },
  strict,
);
export type Pending = Static<typeof Pending>;

/** What was seen served at one place, beside what should be. */
export const ServedEndpoint = Type.Object(
  {
    service: Service,
    /** `192.0.2.1:16514`, `VM guest 127.0.0.1:5900`, or the directory of files that are read at each use. */
    target: Line,
    /** The VM whose server it is. */
    vm: Type.Union([VmName, Type.Null()]),
    expectedPin: Pin,
    servedPin: Type.Union([Pin, Type.Null()]),
    state: Type.Union([
      Type.Literal('as-desired'),
      /** Another certificate is served; a repair is under way or was tried. */
      Type.Literal('drifted'),
      /** Changed back after each repair: left alone. */
      Type.Literal('contested'),
      /** Only a restart or migration of the VM brings the certificate (SPICE, chardev). */
      Type.Literal('needs-restart'),
      /** No handshake was possible. */
      Type.Literal('unreachable'),
    ]),
    detail: Line,
    /** What a person has to do; empty where nothing. */
    action: Line,
    /** When this state was first seen, and last. */
    since: Time,
    at: Time,
  },
  strict,
);
export type ServedEndpoint = Static<typeof ServedEndpoint>;

/** A service that goes on with a set made by the host itself, because its own had expired when the host started. */
export const Rescue = Type.Object({ service: Service, reason: Line, at: Time }, strict);
export type Rescue = Static<typeof Rescue>;

export const ObservedState = Type.Object(
  {
    mode: Type.Union([Type.Literal('observe'), Type.Literal('manage')]),
    /** The desired state that it is the result of, zero before the first. */
    epoch: Count,
    number: Count,
    /**
     * Those that the host has: of the desired state that was settled last, whatever came of one after it. Null where none
     * was; left out by an agent that does not say.
     */
    settings: Type.Optional(Type.Union([DesiredSettings, Type.Null()])),
    credentials: Type.Array(ObservedCredential, { maxItems: 16 }),
    pending: Type.Array(Pending, { maxItems: 1024 }),
    /** The last look at every endpoint. */
    served: Type.Array(ServedEndpoint, { maxItems: 4096 }),
    crls: Type.Array(InstalledCrl, { maxItems: 16 }),
    rescues: Type.Array(Rescue, { maxItems: 16 }),
    /** As the kernel has them, after what comes and goes has come to rest; null before the first look. */
    network: Type.Union([HostNetwork, Type.Null()]),
    /** What the host can do in migrations; null before the first look. */
    capabilities: Type.Union([HostCapabilities, Type.Null()]),
    /** Of the settings (daemon configuration, sockets, firewall), where they failed. */
    failure: Type.Union([Failure, Type.Null()]),
    /** True while the agent works on it. */
    busy: Type.Boolean(),
  },
  strict,
);
export type ObservedState = Static<typeof ObservedState>;

/** A request of the host for a certificate, made with a key that never leaves it. */
export const CertificateRequest = Type.Object({ service: Service, generation: Count, csr: Pem }, strict);
export type CertificateRequest = Static<typeof CertificateRequest>;

export const IssuedCertificate = Type.Object(
  { service: Service, generation: Count, certificate: Pem },
  strict,
);
export type IssuedCertificate = Static<typeof IssuedCertificate>;

/** The manager's own handshake, or why it did not work: the agent keeps or goes back. */
export const ProofVerdict = Type.Object(
  {
    service: Service,
    generation: Count,
    verdict: Type.Union([
      Type.Object({ kind: Type.Literal('proven'), proof: Proof }, strict),
      Type.Object({ kind: Type.Literal('refused'), reason: Text }, strict),
    ]),
  },
  strict,
);
export type ProofVerdict = Static<typeof ProofVerdict>;
