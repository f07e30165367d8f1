import type { Tokens } from '../../access/tokens.ts';
import type { Handlers } from '../handlers.ts';

/** Tokens; a secret is in the answer to its making alone. */
export function tokenHandlers(tokens: Tokens): Pick<Handlers, 'listTokens' | 'createToken' | 'deleteToken'> {
  return {
    listTokens: async () => ({ items: await tokens.list() }),
    createToken: ({ body, actor }) => tokens.create(body.name, body.role, actor.auditName),
    deleteToken: async ({ params, actor }) => {
      await tokens.delete(params.id, actor.auditName);
      return undefined;
    },
  };
}
