import Type, { type Static } from 'typebox';

/** What serves TLS on a host. */
export const Service = Type.Union([
  Type.Literal('libvirt'),
  Type.Literal('migration'),
  Type.Literal('vnc'),
  Type.Literal('spice'),
  Type.Literal('nbd'),
  Type.Literal('backup'),
]);
export type Service = Static<typeof Service>;
export const SERVICES: readonly Service[] = ['libvirt', 'migration', 'vnc', 'spice', 'nbd', 'backup'];

/** What an authority is for. */
export const Purpose = Type.Union([
  Type.Literal('control'),
  Type.Literal('migration'),
  Type.Literal('console'),
  Type.Literal('storage'),
]);
export type Purpose = Static<typeof Purpose>;
export const PURPOSES: readonly Purpose[] = ['control', 'migration', 'console', 'storage'];

/** The authority's purpose for each service. */
export const PURPOSE_OF_SERVICE: Readonly<Record<Service, Purpose>> = {
  libvirt: 'control',
  migration: 'migration',
  vnc: 'console',
  spice: 'console',
  nbd: 'storage',
  backup: 'storage',
};

export const KeyAlgorithm = Type.Union([
  Type.Literal('ecdsa-p256'),
  Type.Literal('ecdsa-p384'),
  Type.Literal('rsa-2048'),
  Type.Literal('rsa-3072'),
]);
export type KeyAlgorithm = Static<typeof KeyAlgorithm>;
