import { fileURLToPath } from 'node:url';

/** This package's folder: `src/` and `dist/` are at the same depth. */
export const PACKAGE_DIRECTORY = fileURLToPath(new URL('..', import.meta.url)).replace(/\/$/, '');
/** Scripts that run inside a machine. */
export const GUEST_DIRECTORY = `${PACKAGE_DIRECTORY}/guest`;
/** Scripts that run on the host. */
export const HOST_DIRECTORY = `${PACKAGE_DIRECTORY}/host`;

/** A boot takes 2 to 4 s on an idle machine; on a loaded CI runner ten times that was seen. */
export const BOOT_TIMEOUT_MS = 90_000;
export const COMMAND_TIMEOUT_MS = 60_000;
export const HALT_TIMEOUT_MS = 30_000;
export const DOWNLOAD_TIMEOUT_MS = 300_000;
/** How often the host looks into the output file of a background process. */
export const OUTPUT_POLL_MS = 20;
export const STATUS_POLL_MS = 100;

/** node and fio need more than the kernel's own 40 MiB. */
export const MEMORY_MIB_DEFAULT = 256;
/** `ubda` to `ubdh`: the driver takes one letter per device up to h (arch/um/drivers/ubd_kern.c, MAX_DEV 16, 8 seen to work). */
export const DISKS_MAX = 8;
/** arch/um: COMMAND_LINE_SIZE 4096 (arch/um/include/asm/setup.h). */
export const COMMAND_LINE_BYTES_MAX = 4096;
export const CONSOLE_TAIL_LINES = 30;
export const OUTPUT_TAIL_LINES = 40;
export const SECTOR_BYTES = 512;
