import { Argument, type Command, Help } from 'commander';

/** Words for the shell come from the very command tree, so that they cannot go out of step. */
export function addCompletionCommand(program: Command): void {
  program
    .command('completion')
    .description('Words for the shell: source <(virt-trust completion bash)')
    .addArgument(new Argument('<shell>').choices(['bash', 'zsh']))
    .action((shell: 'bash' | 'zsh') => {
      process.stdout.write(shell === 'zsh' ? `autoload -U +X bashcompinit && bashcompinit\n` : '');
      process.stdout.write(completionScript(wordsOf(program, '')));
    });
}

/** What may follow a command, by the words of the command; the empty one is virt-trust itself. */
type WordsByCommand = readonly (readonly [command: string, words: readonly string[]])[];

function wordsOf(command: Command, path: string): WordsByCommand {
  const help = new Help();
  const children = help.visibleCommands(command);
  const options = help.visibleOptions(command).map((option) => option.long ?? option.short ?? '');
  return [
    [path, [...children.map((child) => child.name()), ...options]],
    ...children.flatMap((child) => wordsOf(child, `${path} ${child.name()}`.trim())),
  ];
}

function completionScript(commands: WordsByCommand): string {
  const known = commands.map(([path]) => JSON.stringify(path)).join(' | ');
  const cases = commands.map(
    ([path, words]) => `    ${JSON.stringify(path)}) words=${JSON.stringify(words.join(' '))} ;;`,
  );
  return `_virt_trust() {
  local word words="" command="" current="\${COMP_WORDS[COMP_CWORD]}"
  for word in "\${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
    case "\${command:+$command }$word" in
    ${known}) command="\${command:+$command }$word" ;;
    esac
  done
  case "$command" in
${cases.join('\n')}
  esac
  COMPREPLY=($(compgen -W "$words" -- "$current"))
}
complete -F _virt_trust virt-trust
`;
}
