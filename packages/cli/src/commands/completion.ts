import { Argument, type Command } from 'commander';

/** Words for the shell come from the very command tree, so that they cannot go out of step. */
export function addCompletionCommand(program: Command): void {
  program
    .command('completion')
    .description('Words for the shell: source <(virt-trust completion bash)')
    .addArgument(new Argument('<shell>').choices(['bash', 'zsh']))
    .action((shell: string) => {
      const lines = treeOf(program, '').map(
        ([path, words]) => `    ${JSON.stringify(path)}) words=${JSON.stringify(words.join(' '))} ;;`,
      );
      const head = shell === 'zsh' ? 'autoload -U +X bashcompinit && bashcompinit\n' : '';
      process.stdout.write(`${head}_virt_trust() {
  local path="" word words="" current="\${COMP_WORDS[COMP_CWORD]}"
  for word in "\${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
    case "$word" in -*) ;; *) [ "$(printf '%s' "$path" | wc -w)" -lt 2 ] && path="\${path:+$path }$word" ;; esac
  done
  case "$path" in
${lines.join('\n')}
  esac
  COMPREPLY=($(compgen -W "$words" -- "$current"))
}
complete -F _virt_trust virt-trust
`);
    });
}

function treeOf(command: Command, path: string): [string, string[]][] {
  const own = [
    ...command.commands.map((child) => child.name()),
    ...command.options.map((option) => option.long ?? option.short ?? ''),
  ];
  return [
    [path, own],
    ...command.commands.flatMap((child) =>
      treeOf(child, path === '' ? child.name() : `${path} ${child.name()}`),
    ),
  ];
}
