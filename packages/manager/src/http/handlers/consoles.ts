import { type ConsolesContext, openConsole } from '../../consoles/open-console.ts';
import type { Handlers } from '../handlers.ts';

/**
 * The handlers that lead to consoles.
 *
 * SECURITY: an answer with a password is kept nowhere: sent again, the request makes another one.
 */
export function consoleHandlers(context: ConsolesContext): Pick<Handlers, 'openConsole'> {
  return {
    openConsole: ({ body, actor, signal }) => openConsole(body, actor.auditName, context, signal),
  };
}
