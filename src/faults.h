/*
 * faults.h
 *		Fault points: places where a test can let a process fail.
 *
 * OM_FAULT_POINT("module/step") stands between two steps and is nothing in a
 * normal build; with -DOM_FAULT_POINTS (test/tools/faults) a test can stop,
 * fail or kill the process there.  Where an error is no possible outcome,
 * because a transaction has just been committed, OM_FAULT_POINT_NOFAIL stands.
 * test/t/21_fault_points.pl finds all of them in the sources and tries each.
 */
#ifndef OM_FAULTS_H
#define OM_FAULTS_H

#include "postgres.h"

#ifdef OM_FAULT_POINTS
extern void om_fault_reach(const char *name);
#define OM_FAULT_POINT(name) om_fault_reach(name)
#else
#define OM_FAULT_POINT(name) ((void) 0)
#endif
#define OM_FAULT_POINT_NOFAIL(name) OM_FAULT_POINT(name)

#endif /* OM_FAULTS_H */
