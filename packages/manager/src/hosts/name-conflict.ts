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
