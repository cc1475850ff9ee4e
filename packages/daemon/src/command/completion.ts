import { Argument, type Command } from 'commander';

const SHELLS = ['bash', 'zsh', 'fish'] as const;
type Shell = (typeof SHELLS)[number];

interface Entry {
  readonly path: string;
  readonly words: string[];
}

/** Every command with the words that may follow it: its subcommands and options. */
function entriesOf(command: Command, path: string): Entry[] {
  const children = command.commands;
  const options = command.options
    .flatMap((option) => [option.long ?? '', option.short ?? ''])
    .filter((word) => word !== '');
  return [
    { path, words: [...children.map((child) => child.name()), ...options, '--help'] },
    ...children.flatMap((child) => entriesOf(child, `${path} ${child.name()}`)),
  ];
}

/** Adds the command `completion <shell>` to `program`; `print` is given the script. */
export function addCompletion(program: Command, print: (script: string) => void): void {
  program
    .command('completion')
    .description(`print a script that completes this command: source <(${program.name()} completion bash)`)
    .addArgument(new Argument('<shell>').choices(SHELLS))
    .action((shell: Shell) => print(completionScript(program, shell)));
}

/** A script for the shell, made from the command line itself. */
export function completionScript(program: Command, shell: Shell): string {
  const name = program.name();
  const entries = entriesOf(program, name);
  if (shell === 'fish') return fish(program, name);
  const cases = entries.map(({ path, words }) => `    '${path}') words='${words.join(' ')}' ;;`).join('\n');
  const body = `_${name}() {
  local path='${name}' word words i
  for ((i = 1; i < COMP_CWORD; i++)); do
    word=\${COMP_WORDS[i]}
    case " ${entries.map(({ path }) => path.replaceAll(' ', '/')).join(' ')} " in
      *" \${path// //}/\${word} "*) path="$path $word" ;;
    esac
  done
  case $path in
${cases}
  esac
  COMPREPLY=($(compgen -W "$words" -- "\${COMP_WORDS[COMP_CWORD]}"))
  # Devices, files and names of mirrors are the shell's to complete.
  [[ \${#COMPREPLY[@]} -gt 0 ]] || COMPREPLY=($(compgen -f -- "\${COMP_WORDS[COMP_CWORD]}"))
}
complete -F _${name} ${name}
`;
  return shell === 'bash' ? body : `autoload -U +X bashcompinit && bashcompinit\n${body}`;
}

function fish(program: Command, name: string): string {
  const quote = (text: string): string => `'${text.replace(/['\\]/g, '\\$&')}'`;
  const option = (
    condition: string,
    {
      long,
      short,
      description,
    }: { long?: string | undefined; short?: string | undefined; description: string },
  ): string =>
    `complete -c ${name}${condition}${long === undefined ? '' : ` -l ${long.slice(2)}`}${short === undefined ? '' : ` -s ${short.slice(1)}`} -d ${quote(description)}`;
  const lines = program.options.map((each) => option('', each));
  for (const command of program.commands) {
    lines.push(
      `complete -c ${name} -n __fish_use_subcommand -a ${command.name()} -d ${quote(command.description())}`,
    );
    const condition = ` -n ${quote(`__fish_seen_subcommand_from ${command.name()}`)}`;
    for (const child of command.commands)
      lines.push(`complete -c ${name}${condition} -a ${child.name()} -d ${quote(child.description())}`);
    for (const each of [...command.options, ...command.commands.flatMap((child) => child.options)])
      lines.push(option(condition, each));
  }
  return `${[...new Set(lines)].join('\n')}\n`;
}
