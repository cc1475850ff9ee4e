#!/usr/bin/env node
import { runProgram } from '@dmlog/daemon';
import { clusterd } from './clusterd.js';

runProgram(clusterd);
