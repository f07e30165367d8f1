import type { Core, Domain } from './core.ts';
import { rotationJob } from './seal/rotation.ts';
import { credentialNotOurs } from './seal/seal-key-file.ts';
import { SqliteSealedValues } from './store/sealed-values.ts';

/** The secrets of the store as a whole. */
export async function secretsDomain(core: Core): Promise<Domain> {
  const { database, seal, sealKeyPlace: place, randomness, audit, jobs } = core;
  const rotation = rotationJob({ values: new SqliteSealedValues(database), seal, place, randomness, audit });
  jobs.register(rotation);
  return {
    handlers: {
      async rotateSecrets({ actor, idempotencyKey }) {
        if (place.kind === 'credential') throw credentialNotOurs(place);
        return jobs.enqueue(rotation, {
          subject: 'seal key',
          payload: {},
          actor: actor.auditName,
          idempotencyKey,
        });
      },
    },
  };
}
