import Type, { type Static } from 'typebox';
import { Uuid, VmName } from './primitives.ts';

const strict = { additionalProperties: false };

/** A VM that libvirt of a host has. */
const HostVm = Type.Object(
  {
    uuid: Uuid,
    name: VmName,
    /** It has a QEMU; one that is paused has. */
    active: Type.Boolean(),
  },
  strict,
);
export type HostVm = Static<typeof HostVm>;

/** As many as libvirt itself lists (remote_protocol.x, `REMOTE_DOMAIN_LIST_MAX`). */
export const HostVms = Type.Object({ vms: Type.Array(HostVm, { maxItems: 16_384 }) }, strict);
