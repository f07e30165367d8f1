import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { isTrustError, TrustError } from '@virt-trust/base/error.ts';
import {
  type Credentials,
  credentialsFile,
  saveCredentials,
  savedCredentials,
} from '@virt-trust/cli/credentials.ts';
import { managerClient } from '@virt-trust/cli/manager-client.ts';
import { getWhoAmI } from '@virt-trust/contract/manager/operations.ts';
import { labDirectory } from '../paths.ts';

/** Where the demo keeps a copy of its token, in the form of a user's configuration. */
export function configHome(lab: string): string {
  return join(labDirectory(lab), 'config');
}

/** The state of the demo's manager: beside the hosts that know it, so that both go together. */
export function managerDirectory(lab: string): string {
  return join(labDirectory(lab), 'manager');
}

/**
 * The token of an earlier start. Without one, what the manager had is thrown away: the token is kept before anything
 * is asked of a manager, so one whose token is not there was killed before it knew any host.
 */
export async function keptToken(lab: string): Promise<string | undefined> {
  const kept = savedCredentials(credentialsFile(configHome(lab)));
  if (kept === undefined) await rm(managerDirectory(lab), { recursive: true, force: true });
  return kept?.token;
}

/** Keeps the token for the next start, and throws `start.token_refused` where the manager does not take it. */
export async function keepToken(lab: string, credentials: Credentials, signal: AbortSignal): Promise<void> {
  saveCredentials(credentials, credentialsFile(configHome(lab)));
  try {
    await managerClient(credentials).call(getWhoAmI, {}, { signal });
  } catch (cause) {
    if (!isTrustError(cause) || cause.category !== 'unauthenticated') throw cause;
    throw new TrustError(
      'start.token_refused',
      'conflict',
      'cannot go on from the last start: its token was taken away',
      { cause, hint: `begin afresh: ./virt-trust lab down --name ${lab} --delete-state` },
    );
  }
}

/**
 * Saves the token as `virt-trust login` does, unless one for another manager is saved there; returns what a shell
 * needs before it can use the commands, which is nothing where the token was saved.
 */
export function logIn(credentials: Credentials, ownConfigHome: string): string[] {
  if (mayReplace(credentials.url)) {
    saveCredentials(credentials);
    return [];
  }
  return [`export XDG_CONFIG_HOME=${ownConfigHome}`];
}

/** Whether saving a token for the manager at this URL takes none for another one away. */
export function mayReplace(url: string): boolean {
  try {
    return [undefined, url].includes(savedCredentials()?.url);
  } catch {
    // Whatever it is, it is not ours to replace.
    return false;
  }
}
