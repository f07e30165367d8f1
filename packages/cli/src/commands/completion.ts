import { Argument, type Command, Help, type Option } from 'commander';

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

/** What may follow a command, or an option of fixed words, by the words up to it; the empty one is virt-trust itself. */
type WordsByCommand = readonly {
  readonly path: string;
  readonly option?: string;
  readonly words: readonly string[];
}[];

function wordsOf(command: Command, path: string): WordsByCommand {
  const help = new Help();
  const children = help.visibleCommands(command);
  const options = help.visibleOptions(command);
  return [
    { path, words: [...children.map((child) => child.name()), ...options.map(nameOf)] },
    ...options.flatMap((option) =>
      option.argChoices === undefined ? [] : [{ path, option: nameOf(option), words: option.argChoices }],
    ),
    ...children.flatMap((child) => wordsOf(child, `${path} ${child.name()}`.trim())),
  ];
}

function nameOf({ long, short }: Option): string {
  return long ?? short ?? '';
}

function completionScript(commands: WordsByCommand): string {
  const known = commands.flatMap(({ path, option }) => (option === undefined ? [JSON.stringify(path)] : []));
  const cases = (ofOptions: boolean) =>
    commands
      .filter(({ option }) => (option !== undefined) === ofOptions)
      .map(({ path, option, words }) => {
        const place = option === undefined ? path : `${path} ${option}`;
        return `    ${JSON.stringify(place)}) words=${JSON.stringify(words.join(' '))} ;;`;
      })
      .join('\n');
  return `_virt_trust() {
  local word words="" command="" current="\${COMP_WORDS[COMP_CWORD]}"
  for word in "\${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
    case "\${command:+$command }$word" in
    ${known.join(' | ')}) command="\${command:+$command }$word" ;;
    esac
  done
  case "$command" in
${cases(false)}
  esac
  case "$command \${COMP_WORDS[COMP_CWORD-1]}" in
${cases(true)}
  esac
  COMPREPLY=($(compgen -W "$words" -- "$current"))
}
complete -F _virt_trust virt-trust
`;
}
