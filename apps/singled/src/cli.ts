#!/usr/bin/env node
import { runProgram } from '@dmlog/daemon';
import { singled } from './singled.js';

runProgram(singled);
