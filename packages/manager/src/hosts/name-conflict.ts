import { TrustError } from '@virt-trust/base/error.ts';

/** A host can not be recorded with a name or address that another one has. */
export function nameConflict(host: string, name: string, holder: string): TrustError {
  return new TrustError(
    'host.name_conflict',
    'conflict',
    `cannot record host ${host}: ${name} already belongs to host ${holder}`,
    {
      context: { name, holder },
      hint: `if it moved, take it from host ${holder}: virt-trust interface set ${holder} INTERFACE --release ${name}, or remove that host; else find out why two machines claim it`,
    },
  );
}

/** A host cannot come under management with the name of one that is known without an agent. */
export function knownUnmanaged(name: string): TrustError {
  return new TrustError(
    'host.name_taken',
    'conflict',
    `cannot record host ${name}: a host without an agent is known by that name`,
    { hint: `if it is the same machine, forget that entry first: virt-trust host remove ${name}` },
  );
}
