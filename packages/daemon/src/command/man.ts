import type { Command } from 'commander';

/** What a manual page says besides the command line. */
export interface ManualParts {
  readonly exitCodes: readonly (readonly [code: string | number, text: string])[];
  /** After the commands: title and text. */
  readonly sections?: readonly (readonly [title: string, text: string])[];
  /** Other pages of section 8. */
  readonly seeAlso: readonly string[];
}

/** The manual page, in roff, made from what --help is made from. */
export function manPage(program: Command, { exitCodes, sections = [], seeAlso }: ManualParts): string {
  const lines = [
    `.TH ${program.name().toUpperCase()} 8 "" "dmlog ${program.version() ?? ''}" "System Administration"`,
    '.SH NAME',
    `${program.name()} \\- ${lower(roff(program.description()))}`,
    '.SH SYNOPSIS',
    `.B ${program.name()}`,
    '[\\fIoptions\\fR] [\\fIcommand\\fR]',
    '.SH OPTIONS',
    ...options(program),
    '.SH COMMANDS',
    ...program.commands.flatMap((command) => section(command, '')),
    ...sections.flatMap(([title, text]) => [`.SH ${title}`, roff(text)]),
    '.SH EXIT STATUS',
    ...exitCodes.flatMap(([code, text]) => ['.TP', `.B ${code}`, roff(text)]),
    '.SH SEE ALSO',
    ...seeAlso.map((name, i) => `.BR ${name} (8)${i < seeAlso.length - 1 ? ',' : ''}`),
  ];
  return `${lines.join('\n')}\n`;
}

function section(command: Command, path: string): string[] {
  const name = `${path}${command.name()}`;
  if (command.commands.length > 0) {
    return [
      `.SS ${name}`,
      roff(command.description()),
      ...command.commands.flatMap((child) => section(child, `${name} `)),
    ];
  }
  const words = command.registeredArguments.map((argument) => {
    const text = argument.variadic ? `${argument.name()}...` : argument.name();
    return argument.required ? `<${text}>` : `[${text}]`;
  });
  return [`.SS "${[name, ...words].join(' ')}"`, roff(command.description()), ...options(command)];
}

function options(command: Command): string[] {
  return command.options.flatMap((option) => {
    const choices = option.argChoices === undefined ? '' : ` (${option.argChoices.join(', ')})`;
    return ['.TP', `.B ${roff(option.flags)}`, roff(`${option.description}${choices}`)];
  });
}

function roff(text: string): string {
  return text
    .replace(/\\/g, '\\e')
    .replace(/-/g, '\\-')
    .replace(/^([.'])/, '\\&$1');
}

function lower(text: string): string {
  return `${text.charAt(0).toLowerCase()}${text.slice(1)}`.replace(/\.$/, '');
}
