import Type, { type Static } from 'typebox';
import { Line, Port } from './primitives.ts';

const strict = { additionalProperties: false };

const JUMP = '(?:[A-Za-z0-9_][A-Za-z0-9_.-]*@)?[A-Za-z0-9\\[][A-Za-z0-9._:\\[\\]-]*';
// SECURITY: ssh gives the hosts of ProxyJump to a shell, so no character means anything there.
const SSH_OPTION_PATTERN = `^(?:ProxyJump=${JUMP}(?:,${JUMP})*|User=[A-Za-z0-9_][A-Za-z0-9_.-]*|(?:Port|ConnectTimeout)=[0-9]{1,5}|IdentitiesOnly=(?:yes|no)|IdentityAgent=/[A-Za-z0-9._/-]+)$`;

/** Where and how the system's OpenSSH client reaches a host. */
export const SshTarget = Type.Object(
  {
    /** `user@host` or `host`, as ssh takes it; never beginning with a dash. */
    destination: Type.String({
      pattern: '^(?:[A-Za-z0-9_][A-Za-z0-9_.-]{0,31}@)?[A-Za-z0-9\\[:][A-Za-z0-9._:\\[\\]%-]{0,252}$',
      maxLength: 290,
      description: 'HOST or USER@HOST as ssh takes it',
    }),
    port: Type.Optional(Port),
    /** A private key file on the manager's machine. */
    identityFile: Type.Optional(
      Type.String({
        maxLength: 4096,
        pattern: '^/[^\\u0000-\\u001f\\u007f]*$',
        description: 'an absolute path',
      }),
    ),
    /** More ssh_config lines, such as `ProxyJump=bastion`. */
    options: Type.Optional(
      Type.Array(
        Type.String({
          maxLength: 512,
          pattern: SSH_OPTION_PATTERN,
          description:
            'ProxyJump=, User=, Port=, ConnectTimeout=, IdentitiesOnly= or IdentityAgent= with a plain value; anything else goes into the ssh_config of the user that the manager runs as',
        }),
        { maxItems: 16 },
      ),
    ),
  },
  strict,
);
export type SshTarget = Static<typeof SshTarget>;

/** `SHA256:` and unpadded base64, as ssh-keygen prints it. */
export const SshFingerprint = Type.String({
  description: 'an SSH fingerprint as ssh-keygen -lf prints it: SHA256: and 43 characters',
  pattern: '^SHA256:[A-Za-z0-9+/]{43}$',
  maxLength: 50,
});

export const SshHostKey = Type.Object({ algorithm: Line, fingerprint: SshFingerprint }, strict);
export type SshHostKey = Static<typeof SshHostKey>;
