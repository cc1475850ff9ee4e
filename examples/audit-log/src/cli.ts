#!/usr/bin/env node
import { runProgram } from '@dmlog/daemon';
import { auditd } from './auditd.js';

runProgram(auditd);
