import type { Command } from 'commander';
import { EXIT_CODE_TEXTS } from '../exit-codes.js';
import { CLUSTER_COLUMNS, STATUS_COLUMNS } from './status.js';

/** The manual page, in roff, made from what --help is made from. */
export function manPage(program: Command): string {
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
    '.SH COLUMNS',
    `Of status, in this order; new ones come at the end: ${STATUS_COLUMNS.map(([title]) => roff(title)).join(', ')}.`,
    `Where a log is clustered, also: ${CLUSTER_COLUMNS.map(([title]) => roff(title)).join(', ')}.`,
    '.SH EXIT STATUS',
    ...EXIT_CODE_TEXTS.flatMap(([code, text]) => ['.TP', `.B ${code}`, roff(text)]),
    '.SH SEE ALSO',
    '.BR singled (8),',
    '.BR clusterd (8),',
    '.BR dmsetup (8)',
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
