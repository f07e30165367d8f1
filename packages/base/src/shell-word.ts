/**
 * A text as one word of a POSIX shell's command, for commands that people are told to type. SECURITY: names of VMs and of
 * what they use are whoever's; a name may hold a command.
 */
export function shellWord(text: string): string {
  return /^[\w.@%+:,/][\w.@%+:,/-]*$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}
